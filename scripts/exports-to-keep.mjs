// Prints the graph for wasm-metadce: every export of the Worker's wasm but the classes that worker
// exports for what this Worker does not use (containers, R2, streams, Images). Nothing calls them.
import { readFileSync } from "node:fs";

const unused = /containerstartupoptions|minifyconfig|r2range|intounderlying/;
const names = WebAssembly.Module.exports(new WebAssembly.Module(readFileSync(process.argv[2]))).map(({ name }) => name);
const kept = names.filter((name) => !unused.test(name));
console.log(JSON.stringify(kept.map((name) => ({ name, export: name, root: true }))));
