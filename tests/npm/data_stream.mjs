// Lines of a data stream on stdin → what the AI SDK 4 reads of them, as JSON.
import { readFileSync } from "node:fs";
import { parseDataStreamPart } from "@ai-sdk/ui-utils";

const lines = readFileSync(0, "utf8").split("\n").filter(Boolean);
console.log(JSON.stringify(lines.map(parseDataStreamPart)));
