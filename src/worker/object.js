// What src/worker/object.rs asks of the runtime by one call where it would need several: each call from the Worker's wasm costs a request
// about a microsecond (bench/NOTES.md).

// What the object of this name answers: by a stub of its own, for after a failure an old one is broken.
export async function ask(namespace, name, message) {
  const response = await namespace.getByName(name).fetch("https://session/", { method: "POST", body: message });
  return response.text();
}
