// How long the stores take in production, in milliseconds, and who says so. Each wait is drawn between these: half of them are
// shorter than p50, one in a hundred longer than p99. An assumption is nobody's figure but ours.
export const PUTS = [50, 150, 400];

export const DELAYS = {
  "KV read, hot": {
    p50: 2, p99: 10,
    source: "Cloudflare, “Choose a data or storage product”: hot reads take 0.5 to 10 ms",
  },
  "KV read, cold": {
    p50: 40, p99: 250,
    source: "Cloudflare, KV changelog of 22 August 2025: of all reads p95 about 50 ms and p99 about 250 ms; that the median of cold ones is 40 ms is an assumption",
  },
  ...Object.fromEntries(PUTS.map((p50) => [`KV write, ${p50}`, {
    p50, p99: 3 * p50,
    source: "an assumption: nobody publishes how long a put takes, and so there are three",
  }])),
  "D1, near": {
    p50: 25, p99: 100,
    source: "an assumption: users tell of 20 to 50 ms a query where the database is on their continent",
  },
  "D1, far": {
    p50: 180, p99: 400,
    source: "an assumption: users tell of 150 to 250 ms a query from another continent, the way there and back",
  },
  "object, near": {
    p50: 8, p99: 40,
    source: "an assumption: an object is born near its visitor, mostly not in the same data centre (Cloudflare, “Data location”)",
  },
  "object, far": {
    p50: 150, p99: 350,
    source: "an assumption: the visitor has gone to another continent, and the object stays",
  },
  "object, a write made durable": {
    p50: 10, p99: 30,
    source: "an assumption, from users' measurements: the reply waits until replicas have the write (Cloudflare's blog, 26 September 2024)",
  },
};
