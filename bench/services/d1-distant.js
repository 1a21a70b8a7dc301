// D1, with the way to it before and after each call.
import { drawing, wait } from "./delay.js";

let draw;

export default {
  async fetch(request, env) {
    draw ??= drawing(env.seed);
    const way = draw(env.delays[env.way]) / 2;
    await wait(way);
    const response = await env.D1.fetch(request);
    await wait(way);
    return response;
  },
};
