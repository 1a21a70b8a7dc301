// Puts the three parts of one `make bench` together, and bench/NOTES.md at their end: bench/RESULTS.md.
import { readFileSync, writeFileSync } from "node:fs";
import { written } from "./numbers.mjs";

const parts = ["waiting", "processor", "bill"].map(written);

writeFileSync("bench/RESULTS.md", `# What a session costs

Written by \`make bench\` on ${parts[0].where} Its three parts are what a visitor [waits](#waiting) for, what a request takes of
the [processor's time](#processor-time), and what the [bill](#bill) says. Each says first what was expected.

${parts.map(({ text }) => text).join("\n")}
${readFileSync("bench/NOTES.md", "utf8")}`);
console.error("The results are in bench/RESULTS.md, and the picture in www/waiting.svg.");
