// The page: what a session does, and the stores side by side. Everything shown was measured just now.

// Exported for the test that both languages say the same things.
export const texts = {
  en: {
    found: { loaded: "found your session", new: "found no session" },
    did: {
      nothing: "and wrote nothing", created: "and stored a new one", saved: "and saved it", touched: "and noted its use",
      moved: "and gave it a new id", killed: "and deleted it", dropped: "and dropped the change: it had been ended meanwhile",
    },
    server: (found, did) => `The server ${found} ${did}.`,
    spans: (load, handler, save, all) => `Load ${load} ms, handler ${handler} ms, save ${save} ms; there and back ${all} ms.`,
    attempts: (n) => `It took ${n} attempts: other requests were faster.`,
    untold: (all) => `There and back ${all} ms. (The server says no more: server_timing is off.)`,
    offline: "No answer: either you are offline or the server is. What arrived there was done all the same.",
    late: "No answer within 15 seconds.",
    busy: "The store did not answer in time (503). Nothing was changed, as far as the server knows.",
    broken: "The server is out of order (500). Its operator finds the reason in its log.",
    odd: (status) => `The server answered ${status}, which this page does not know.`,
    retry: "Try again",
    isNew: "new: nothing is stored", isKnown: "known", never: "never", over: "now", ago: (t) => `${t} ago`, left: (t) => `in ${t}`, bytes: (n) => `${n} bytes`,
    running: "Twenty counts are under way…", racing: "Seven counts and one logout are under way…",
    outcome: (answered, due, real) => `${answered} of 20 were answered. Due: ${due}. Stored: ${real}.`,
    exact: "No update was lost.",
    lost: (n) => `${n} ${n === 1 ? "update was" : "updates were"} lost: whoever was told the same number overwrote another.`,
    more: (n) => `${n} more than due: a refused request was stored after all.`,
    refused: (n) => `${n} refused (no answer, or an error): those visitors know that nothing was counted.`,
    slowest: (ms) => `The slowest took ${ms} ms.`,
    each: "Every reply", none: "refused",
    dead: "The old cookie is dead: the logout was final.",
    alive: (n) => `The old cookie came back to life, at number ${n}: a request that was under way undid the logout.`,
    unsure: "The logout itself was refused, so that this shows nothing. Try again.",
  },
  zh: {
    title: "edge-session：看看会话做了什么",
    tagline: "用 Rust 编写的 Cloudflare Workers 服务器端会话：把 web.py 的会话计数器带到边缘。",
    lead: "会话（session）让服务器在两次请求之间记住同一位访客。这里记住的是一个数字：数字存放在服务器上，浏览器里是一个带签名的 id，放在脚本读不到的 cookie 中；在 KV 上还有最近 90 秒的写入，密封着。",
    counter: "你的数字", count: "计数", reset: "重置",
    hint: "每点一次就是一个请求：服务器载入你的会话，加一，并保存。",
    seen: "服务器知道的关于你的信息", state: "会话", store: "存放在", created: "开始于", used: "最近一次记录的使用", idle: "若不使用，结束于",
    absolute: "无论如何，结束于", size: "数据大小",
    noted: "会话的使用只是偶尔记录，因为每次记录都是一次写入：在不使用即结束的时间的十分之一内，最多记录一次。",
    compare: "三种存储，并排比较",
    compareLead: "同一个计数器，放在三个地方。同时计数二十次，或者在七次计数进行中登出，看看每种存储保住了什么。这里没有预设的结果：显示的都是你的浏览器刚刚测到的。",
    twentyAll: "三种存储：同时计数 20 次", logoutAll: "三种存储：计数中登出", twenty: "同时计数 20 次", logout: "计数中登出",
    plot: "图中每个点是一个回答：横向是到达的时间，纵向是它给出的数字。重复给出的数字，每次是一个圆环。虚线是应有的数字。",
    off: "此处关闭了比较（wrangler.toml 中的 compare_stores）。",
    kv: "处处都有缓存副本：读得最快，计数也不等待写入。KV 可能还没有给出的内容由你的浏览器带着，所以你在任何地方都能看到自己的修改。在两处同时进行的请求可能丢掉彼此的修改；登出要过 60 秒或更久才处处可知。适合读远多于写的会话。",
    d1: "位于一处的 SQL 数据库。精确：修改不会丢失，登出立即生效。适合访客集中在一个地区，或需要查询会话数据的场合。",
    object: "每个会话一个小对象，靠近它的访客。与 D1 一样精确，却不集中在一处。适合访客遍布世界的场合。",
    waiting: "访客要等多久",
    waitingLead: "这是本项目的基准测试在一个与生产环境一样慢的 KV 上测得的，不是你这次访问的结果：一次计数要多久，连续十次要多久，并与别人在 KV 上的做法并列。",
    waitingPicture: "两张条形图。用 edge-session，在 Workers KV 上一次计数约十毫秒，没有错误的回答；用别的库，一次计数与写入 KV 一样久，连续十次计数大多失败。",
    found: { loaded: "找到了你的会话", new: "没有找到会话" },
    did: {
      nothing: "没有写入任何内容", created: "存下了一个新会话", saved: "保存了修改", touched: "记录了这次使用",
      moved: "换了新的 id", killed: "删除了它", dropped: "丢弃了修改：它在此期间已被结束",
    },
    server: (found, did) => `服务器${found}，${did}。`,
    spans: (load, handler, save, all) => `载入 ${load} 毫秒，处理 ${handler} 毫秒，保存 ${save} 毫秒；往返 ${all} 毫秒。`,
    attempts: (n) => `一共尝试了 ${n} 次：其他请求更快。`,
    untold: (all) => `往返 ${all} 毫秒。（server_timing 已关闭，服务器没有提供更多信息。）`,
    offline: "没有回答：可能是你离线了，也可能是服务器离线了。已经到达的请求仍会被执行。",
    late: "15 秒内没有回答。",
    busy: "存储没有及时回答（503）。据服务器所知，什么都没有改变。",
    broken: "服务器出了故障（500），运维人员可在日志中找到原因。",
    odd: (status) => `服务器回答了 ${status}，本页不认识这个状态。`,
    retry: "再试一次",
    isNew: "新的：没有存储任何内容", isKnown: "已知", never: "永不", over: "现在", ago: (t) => `${t} 前`, left: (t) => `${t} 后`, bytes: (n) => `${n} 字节`,
    running: "二十个请求正在进行……", racing: "七次计数和一次登出正在进行……",
    outcome: (answered, due, real) => `20 个请求中有 ${answered} 个得到回答。应为 ${due}，实际存储 ${real}。`,
    exact: "没有丢失任何更新。",
    lost: (n) => `丢失了 ${n} 个更新：得到相同数字的请求覆盖了别人的修改。`,
    more: (n) => `比应有的多 ${n}：某个被拒绝的请求其实存下来了。`,
    refused: (n) => `${n} 个被拒绝（没有回答或出错）：这些访客知道没有计数。`,
    slowest: (ms) => `最慢的用了 ${ms} 毫秒。`,
    each: "每个回答", none: "被拒绝",
    dead: "旧 cookie 已失效：登出是彻底的。",
    alive: (n) => `旧 cookie 复活了，数字是 ${n}：进行中的请求撤销了登出。`,
    unsure: "登出请求本身被拒绝，这一次说明不了什么。请再试一次。",
  },
};

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

// Language: the choice made here before, else the browser's first that we have.

let language = "en";
let say = texts.en;
// What was said last, to be said again in the other language.
const said = new Map();

function tell(element, render) {
  said.set(element, render);
  element.replaceChildren(...[render()].flat().filter((part) => part !== ""));
}

function speak(next) {
  language = next;
  say = texts[next];
  document.documentElement.lang = next === "zh" ? "zh-CN" : "en";
  for (const element of $$("[data-text]")) element.textContent = say[element.dataset.text];
  for (const element of $$("[data-alt]")) element.alt = say[element.dataset.alt];
  for (const button of $$("[data-language]")) button.setAttribute("aria-pressed", button.dataset.language === next);
  for (const [element, render] of said) tell(element, render);
  showFacts();
}

function remembered() {
  try {
    return localStorage.getItem("language");
  } catch {
    return null; // Storage is switched off: the browser's language will do.
  }
}

function choose(next) {
  try {
    localStorage.setItem("language", next);
  } catch {
    // Then it is chosen for this visit alone.
  }
  speak(next);
}

// Requests.

async function ask(path) {
  const began = performance.now();
  try {
    const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(15_000) });
    const body = await response.text();
    const ms = Math.round(performance.now() - began);
    return { status: response.status, body, ms, timing: timingOf(response) };
  } catch (error) {
    return { status: 0, late: error.name === "TimeoutError", ms: Math.round(performance.now() - began) };
  }
}

// `load;desc=loaded;dur=2, handler;dur=0, save;desc=saved;dur=3, attempts;desc=1` as an object.
function timingOf(response) {
  const header = response.headers.get("Server-Timing");
  if (!header) return null;
  return Object.fromEntries(header.split(", ").map((metric) => {
    const [name, ...values] = metric.split(";");
    return [name, Object.fromEntries(values.map((value) => value.split("=")))];
  }));
}

function whatWentWrong({ status, late }) {
  if (status === 0) return late ? say.late : say.offline;
  return { 500: say.broken, 503: say.busy }[status] ?? say.odd(status);
}

function whatWasDone({ ms, timing }) {
  if (!timing) return say.untold(ms);
  const { load, handler, save, attempts } = timing;
  const sentences = [say.server(say.found[load.desc], say.did[save.desc]), say.spans(load.dur, handler.dur, save.dur, ms)];
  if (Number(attempts.desc) > 1) sentences.push(say.attempts(attempts.desc));
  return sentences.join(language === "zh" ? "" : " ");
}

// A counter: the one above, and one for each store.

const main = counter($("#counter"));
const stores = $$("[data-path]", $("#compare")).map((article) => {
  article.append($("#store").content.cloneNode(true));
  // Three buttons of each name are on the page: whose this one is, is said after it.
  for (const button of $$("button", article)) button.setAttribute("aria-describedby", $("h3", article).id);
  return counter(article);
});

function counter(place) {
  return { place, path: place.dataset.path, last: Promise.resolve(), waiting: 0 };
}

const part = (counter, name) => $(`[data-${name}]`, counter.place);

// One piece of work after the other: no click is lost, and none overtakes another.
function inTurn(counter, work) {
  counter.waiting += 1;
  counter.place.dataset.busy = "";
  counter.last = counter.last.then(work).finally(() => {
    counter.waiting -= 1;
    if (counter.waiting === 0) delete counter.place.dataset.busy;
  });
  return counter.last;
}

function showNumber(counter, text) {
  const number = part(counter, "number");
  if (number.textContent === text) return;
  number.textContent = text;
  number.classList.remove("new");
  void number.offsetWidth; // So that the same animation runs again.
  number.classList.add("new");
}

function showTrouble(counter, reply, again) {
  // What was said before is not of this.
  for (const name of ["did", "outcome"]) if (part(counter, name)) tell(part(counter, name), () => "");
  const retry = () => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button";
    button.textContent = say.retry;
    button.addEventListener("click", again);
    return button;
  };
  const message = () => Object.assign(document.createElement("p"), { textContent: whatWentWrong(reply) });
  tell(part(counter, "trouble"), () => [message(), retry()]);
}

const clearTrouble = (counter) => tell(part(counter, "trouble"), () => "");

function act(counter, name) {
  return inTurn(counter, async () => {
    const reply = await ask(`${counter.path}/${name}`);
    if (reply.status !== 200) return showTrouble(counter, reply, () => act(counter, name));
    clearTrouble(counter);
    if (part(counter, "outcome")) tell(part(counter, "outcome"), () => "");
    showNumber(counter, name === "count" ? reply.body : "0");
    tell(part(counter, "did"), () => whatWasDone(reply));
    if (counter === main) await look(main);
  });
}

// The session, seen.

// What the server says of it. Undefined, and told, when it says nothing.
async function sessionOf(counter, again) {
  const reply = await ask(`${counter.path}/session`);
  if (reply.status === 404 && counter !== main) return showNothingToCompare();
  if (reply.status !== 200) return showTrouble(counter, reply, again);
  return JSON.parse(reply.body);
}

function showNothingToCompare() {
  $("#off").hidden = false;
  for (const part of $$(".stores, [data-scripted]", $("#compare"))) part.hidden = true;
}

// Shows the number that is stored and, of the counter above, what else the server knows.
async function look(counter) {
  const session = await sessionOf(counter, () => inTurn(counter, () => look(counter)));
  if (!session) return;
  clearTrouble(counter);
  showNumber(counter, String(session.count ?? 0));
  if (counter !== main) return;
  facts = session;
  ahead = facts.now - Date.now() / 1000;
  showFacts();
}

let facts = null;
// The server's clock less ours, in seconds.
let ahead = 0;

function showFacts() {
  if (!facts) return;
  const now = Date.now() / 1000 + ahead;
  const left = (time) => (time === null ? say.never : time <= now ? say.over : say.left(duration(time - now)));
  const shown = facts.new
    ? { state: say.isNew }
    : {
        state: say.isKnown,
        created_at: say.ago(duration(now - facts.created_at)),
        last_used_at: say.ago(duration(now - facts.last_used_at)),
        idle_expires_at: left(facts.idle_expires_at),
        absolute_expires_at: left(facts.absolute_expires_at),
        bytes: say.bytes(facts.bytes),
      };
  shown.store = { kv: "Workers KV", d1: "D1", object: "Durable Objects" }[facts.store];
  for (const place of $$("[data-fact]")) place.textContent = shown[place.dataset.fact] ?? "–";
}

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const days = Math.floor(whole / 86_400);
  const clock = `${two(Math.floor(whole / 3600) % 24)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return days ? `${days} d ${clock}` : clock;
}

// Races. Their replies leave the browser's cookie as it is, so that all requests are one session's, and the
// old cookie can be tried after a logout.

const KEEP = "?keep_cookie";

// The number of a session to race on. Undefined, and told, when there is none to be had.
async function started(counter, again) {
  const session = await sessionOf(counter, again);
  if (!session) return;
  if (!session.new) return session.count;
  const reply = await ask(`${counter.path}/count`);
  if (reply.status !== 200) return showTrouble(counter, reply, again);
  return Number(reply.body);
}

function race(counter, name) {
  return inTurn(counter, async () => {
    const again = () => race(counter, name);
    clearTrouble(counter);
    const before = await started(counter, again);
    if (before !== undefined) await { twenty, logout }[name](counter, before, again);
  });
}

async function twenty(counter, before, again) {
  const outcome = part(counter, "outcome");
  tell(outcome, () => say.running);
  const began = performance.now();
  const replies = await Promise.all(Array.from({ length: 20 }, async () => {
    const reply = await ask(`${counter.path}/count${KEEP}`);
    const number = reply.status === 200 ? Number(reply.body) : null;
    return { number, at: Math.round(performance.now() - began), ms: reply.ms };
  }));
  const session = await sessionOf(counter, again);
  if (!session) return;
  const real = session.count ?? 0;
  const answered = replies.filter((reply) => reply.number !== null).length;
  const due = before + answered;
  const lost = due - real;
  showNumber(counter, String(real));
  tell(part(counter, "did"), () => "");
  tell(outcome, () => [
    paragraph(say.outcome(answered, due, real)),
    lost > 0 ? paragraph(say.lost(lost), "bad") : paragraph(lost < 0 ? say.more(-lost) : say.exact, "good"),
    answered < 20 ? paragraph(say.refused(20 - answered), "bad") : "",
    plot(replies, before, due),
    paragraph(say.slowest(Math.max(...replies.map(({ ms }) => ms)))),
    list(replies),
  ]);
}

async function logout(counter, before, again) {
  const outcome = part(counter, "outcome");
  tell(outcome, () => say.racing);
  const paths = ["count", "count", "count", "reset", "count", "count", "count", "count"];
  const replies = await Promise.all(paths.map((path) => ask(`${counter.path}/${path}${KEEP}`)));
  const session = await sessionOf(counter, again);
  // Whatever the old cookie is worth, it has served.
  await ask(`${counter.path}/reset`);
  if (!session) return;
  showNumber(counter, "0");
  tell(part(counter, "did"), () => "");
  const refused = replies.filter(({ status }) => status !== 200).length;
  tell(outcome, () => [
    replies[paths.indexOf("reset")].status !== 200
      ? paragraph(say.unsure, "bad")
      : session.new ? paragraph(say.dead, "good") : paragraph(say.alive(session.count), "bad"),
    refused ? paragraph(say.refused(refused)) : "",
  ]);
}

function paragraph(text, kind = "") {
  return Object.assign(document.createElement("p"), { textContent: text, className: kind });
}

function list(replies) {
  const details = document.createElement("details");
  const items = replies.toSorted((a, b) => a.at - b.at).map(({ number, at }) =>
    Object.assign(document.createElement("li"), { textContent: `${number ?? say.none}, ${at} ms` }));
  const ordered = document.createElement("ol");
  ordered.append(...items);
  details.append(Object.assign(document.createElement("summary"), { textContent: say.each }), ordered);
  return details;
}

function plot(replies, before, due) {
  const [width, height, left, right, bottom, top] = [300, 140, 34, 282, 114, 16];
  const latest = Math.max(1, ...replies.map(({ at }) => at));
  const highest = Math.max(due, ...replies.map(({ number }) => number ?? 0));
  const x = (at) => left + 16 + (at / latest) * (right - left - 16);
  const y = (number) => bottom - 12 - ((number - before) / Math.max(1, highest - before)) * (bottom - 12 - top);
  const timesTold = (told) => replies.filter(({ number }) => number === told).length;
  // The second time that a number was told lies around the first.
  const radius = (reply) => Math.min(13.5, 3.5 + 2 * replies.filter(({ number }) => number === reply.number).indexOf(reply));
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": say.plot });
  svg.append(
    shape("path", { class: "axis", fill: "none", d: `M${left} ${top}V${bottom}H${width}` }),
    shape("path", { class: "due", d: `M${left} ${y(due)}H${width}` }),
    shape("text", { x: left - 4, y: y(due) + 3, "text-anchor": "end" }, due),
    shape("text", { x: left - 4, y: y(before) + 3, "text-anchor": "end" }, before),
    shape("text", { x: right + 8, y: height - 10, "text-anchor": "end" }, `${latest} ms`),
    ...replies.map((reply) => {
      const { number, at } = reply;
      if (number === null) return shape("path", { class: "refused", d: `M${x(at) - 3} ${bottom - 3}l6 6m0-6l-6 6` });
      const kind = timesTold(number) > 1 ? "again" : "once";
      return shape("circle", { class: kind, cx: x(at), cy: y(number), r: radius(reply) });
    }),
  );
  return svg;
}

function shape(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.textContent = text;
  return element;
}

// Start.

// English stands in the page, for those without scripts; here it is learnt from there.
for (const element of $$("[data-text]")) texts.en[element.dataset.text] ??= element.textContent.replace(/\s+/g, " ");
for (const element of $$("[data-alt]")) texts.en[element.dataset.alt] ??= element.alt.replace(/\s+/g, " ");
// With scripts the links are buttons.
for (const link of $$("a[data-act]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = link.className;
  Object.assign(button.dataset, link.dataset);
  button.textContent = link.textContent;
  link.replaceWith(button);
}
for (const element of $$("#languages, [data-scripted]")) element.hidden = false;
for (const button of $$("[data-language]")) button.addEventListener("click", () => choose(button.dataset.language));
for (const counter of [main, ...stores]) {
  for (const button of $$("[data-act]", counter.place)) button.addEventListener("click", () => act(counter, button.dataset.act));
  for (const button of $$("[data-race]", counter.place)) button.addEventListener("click", () => race(counter, button.dataset.race));
}
for (const button of $$("[data-scripted] [data-race]")) {
  button.addEventListener("click", async () => {
    // One store after the other, so that they do not compete for the browser's connections.
    for (const counter of stores) await race(counter, button.dataset.race);
  });
}

const preferred = navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag in texts);
speak(remembered() in texts ? remembered() : (preferred ?? "en"));

for (const counter of [main, ...stores]) await inTurn(counter, () => look(counter));
setInterval(showFacts, 1000);
document.documentElement.dataset.ready = "";
