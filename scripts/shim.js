// The Worker's entry: what worker-build's shim does, without a class and two proxies for each request.
//
// After a panic or another trap the instance's memory is not to be trusted. The next call makes a new instance, and
// an object whose half in it is gone a new half; what an object knows is in its storage. Whoever else was waiting for
// the old instance would wait for ever: they are told at once.
import * as worker from "./index.js";

Error.stackTraceLimit = 100;

// The panic hook sets `criticalError`, and each instance raises `instanceId`.
const state = worker.__worker_init_state();

// How to tell those who wait for the instance.
const waiting = new Set();

function called(call) {
  if (state.criticalError) {
    console.log("edge-session: a new instance after a panic");
    worker.__wbg_reset_state();
    state.criticalError = false;
  }
  let answer;
  try {
    answer = call();
  } catch (error) {
    note(error);
    throw error;
  }
  return answer instanceof Promise ? awaited(answer) : answer;
}

function awaited(answer) {
  return new Promise((resolve, reject) => {
    waiting.add(reject);
    const settle = (settled) => (value) => {
      waiting.delete(reject);
      settled(value);
    };
    answer.then(settle(resolve), settle(reject));
  });
}

// A trap: of a panic, or of a stack that overflowed.
function note(error) {
  if (!(error instanceof WebAssembly.RuntimeError)) return;
  state.criticalError = true;
  for (const reject of waiting) reject(error);
  waiting.clear();
}
// Of a timer's call, and of a settled promise's.
addEventListener("error", (event) => note(event.error));
addEventListener("unhandledrejection", (event) => note(event.reason));

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
