// The Worker's entry: what worker-build's shim does, without a class and two proxies for each request.
//
// After a panic or another trap the instance's memory is not to be trusted: wasm-bindgen makes a new instance at the next
// call, and an object whose half in it is gone gets a new half; what an object knows is in its storage. Whoever else was
// waiting for the old instance would wait for ever: they are told at once. (Their promises are other requests', which the
// runtime allows since 2024-10-14, `handle_cross_request_promise_resolution`.)
import * as worker from "./index.js";

Error.stackTraceLimit = 100;

// Each instance raises its `instanceId`.
const state = worker.__worker_init_state();
let instance = state.instanceId;

// How to tell those who wait for the instance. A request that the platform breaks off leaves its entry behind: where
// there are many, those go that were there already at the last look, longer ago than any request takes.
let waiting = new Set();
let earlier = new Set();
let looked = 0;
const MANY = 256;
const LONG = 20 * 60 * 1000;

function wait(reject) {
  if (waiting.size > MANY && Date.now() - looked > LONG) {
    looked = Date.now();
    earlier = waiting;
    waiting = new Set();
  }
  waiting.add(reject);
}

function called(call) {
  let answer;
  try {
    answer = call();
  } catch (error) {
    failed(error);
    throw error;
  }
  return answer instanceof Promise ? awaited(answer) : answer;
}

function awaited(answer) {
  return new Promise((resolve, reject) => {
    wait(reject);
    const settle = (settled) => (value) => {
      if (!waiting.delete(reject)) earlier.delete(reject);
      settled(value);
    };
    answer.then(settle(resolve), settle(reject));
  });
}

// Something went wrong; whether the instance died of it shows when it is called.
function failed(error) {
  worker.__worker_init_state();
  if (state.instanceId === instance) return;
  instance = state.instanceId;
  console.log("edge-session: new_instance: after a panic or another trap");
  for (const reject of [...earlier, ...waiting]) reject(error);
  earlier.clear();
  waiting.clear();
}
// In a timer's call, and in a settled promise's.
addEventListener("error", (event) => failed(event.error));
addEventListener("unhandledrejection", (event) => failed(event.reason));

export default {
  fetch(request, env, context) {
    const response = called(() => worker.fetch(request, env, context));
    // A visitor who goes away must not cut off the save of their session, as the platform otherwise may. (A workerd by
    // itself goes on in any case, so that no test here shows it.)
    if (response instanceof Promise) context.waitUntil(response);
    return response;
  },
  scheduled(event, env, context) {
    return called(() => worker.scheduled(event, env, context));
  },
};

export class SessionObject {
  #state;
  #env;
  #half;
  #instance;

  constructor(state, env) {
    this.#state = state;
    this.#env = env;
  }

  // To be called within `called`.
  #alive() {
    if (this.#instance !== state.instanceId) {
      this.#half = new worker.SessionObject(this.#state, this.#env);
      this.#instance = state.instanceId;
    }
    return this.#half;
  }

  fetch(request) {
    return called(() => this.#alive().fetch(request));
  }

  alarm() {
    return called(() => this.#alive().alarm());
  }
}
