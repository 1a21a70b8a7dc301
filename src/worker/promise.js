// What src/worker/promise.rs asks of the runtime.

export function settle(promise, number, settled) {
  promise.then((value) => settled(number, true, value), (error) => settled(number, false, error));
}

export function after(milliseconds, number, settled) {
  setTimeout(settled, milliseconds, number, true);
}
