// The namespace of objects as a Worker is bound to it, with the way to an object before and after each request.
import { RpcTarget, WorkerEntrypoint } from "cloudflare:workers";
import { drawing, wait } from "./delay.js";

let draw;
let requests = 0;

class Stub extends RpcTarget {
  #stub;
  #env;
  constructor(stub, env) {
    super();
    this.#stub = stub;
    this.#env = env;
  }
  async fetch(url, init) {
    requests += 1;
    const way = draw(this.#env.delays[this.#env.way]) / 2;
    await wait(way);
    const response = await this.#stub.fetch(url, init);
    await wait(way);
    return response;
  }
}

export class Objects extends WorkerEntrypoint {
  getByName(name) {
    draw ??= drawing(this.env.seed);
    return new Stub(this.env.OBJECTS.getByName(name), this.env);
  }
}

// What was billed since the last look: requests here, and rows where the objects live.
export default {
  async fetch(request, env) {
    const counted = { requests, ...(await (await env.HOST.fetch(request)).json()) };
    requests = 0;
    return Response.json(counted);
  },
};
