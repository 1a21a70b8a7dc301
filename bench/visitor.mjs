// A visitor with a browser's jar of cookies, who knows what they were told and notes each answer that is wrong.
import { CookieJar } from "tough-cookie";

export class Visitor {
  #jar = new CookieJar();
  // The number that they were told last, and how many requests since may have counted or not: those that failed.
  #told = 0;
  #unsure = 0;
  wrong = { older: 0, lost: 0, errors: 0 };
  asked = 0;

  async #answer(url, method, cookie) {
    const began = performance.now();
    const response = await fetch(url, { method, headers: cookie ? { cookie } : {} });
    const body = await response.text();
    const took = performance.now() - began;
    this.asked += 1;
    if (response.status !== 200) this.wrong.errors += 1;
    return { took, response, number: response.status === 200 ? Number(body) : undefined };
  }

  async #visit(url, method = "GET") {
    const answer = await this.#answer(url, method, await this.#jar.getCookieString(url));
    for (const line of answer.response.headers.getSetCookie()) await this.#jar.setCookie(line, url);
    return answer;
  }

  // Counts, by this path. Gives how long that took.
  async count(place, path = "/count", method = "GET") {
    const { took, number } = await this.#visit(`${place}${path}`, method);
    if (number === undefined) {
      this.#unsure += 1;
      return took;
    }
    const least = this.#told + 1;
    if (number > least + this.#unsure) throw new Error(`${place}${path} counted ${number} after ${this.#told}`);
    this.wrong.lost += Math.max(0, least - number);
    [this.#told, this.#unsure] = [number, 0];
    return took;
  }

  // A login is a POST, and counts as well.
  login(place) {
    return this.count(place, "/login", "POST");
  }

  // Looks. Gives how long that took.
  async look(place) {
    const { took, number } = await this.#visit(`${place}/read`);
    if (number === undefined) return took;
    if (number > this.#told + this.#unsure) throw new Error(`${place} has ${number} after ${this.#told}`);
    if (number < this.#told) this.wrong.older += 1;
    return took;
  }

  // What the store has for the session's cookie alone: counts that the visitor was told of and that are not there are lost.
  async lookInStore(place, cookieName) {
    const cookies = await this.#jar.getCookies(place);
    const { number } = await this.#answer(`${place}/read`, "GET", cookies.find(({ key }) => key === cookieName)?.cookieString());
    if (number !== undefined) this.wrong.lost += Math.max(0, this.#told - number);
  }
}
