// Waits that are drawn with a seed from a log-normal distribution, which has this p50 and this p99.
const NORMAL_P99 = 2.326;

// mulberry32: numbers from 0 to 1, always the same ones for a seed.
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Gives a function that draws how long the next call takes.
export function drawing(seed) {
  const random = generator(seed);
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return ({ p50, p99 }) => p50 * Math.exp((normal() * Math.log(p99 / p50)) / NORMAL_P99);
}
