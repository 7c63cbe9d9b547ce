/** The command line: predicts one record, or describes the model, and prints the answer as JSON. */

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { status } from "@grpc/grpc-js";
import { type ClientOptions, PredictionClient, PredictionError, type Value } from "./client.js";

const USAGE = `usage: node dist/predict.js (--record JSON | --model) [--target HOST:PORT] [--timeout-ms N]
                            [--ca FILE] [--token-file FILE] [--request-id NAME]`;

/** Returns the exit code: 0, 1 if the call fails, 2 if the command is wrong. */
async function main(): Promise<number> {
  const command = readCommand();
  if (command === undefined) {
    console.error(USAGE);
    return 2;
  }
  const client = new PredictionClient(command.target, command.options);
  try {
    const answer = await (command.record === undefined
      ? client.getModel()
      : client.predict(command.record, command.requestId));
    console.log(JSON.stringify(answer, undefined, 2));
    return 0;
  } catch (error) {
    if (!(error instanceof PredictionError)) throw error;
    report(error);
    return 1;
  } finally {
    client.close();
  }
}

interface Command {
  target: string;
  /** Undefined asks for the model. */
  record: Record<string, Value> | undefined;
  requestId?: string;
  options: ClientOptions;
}

function readCommand(): Command | undefined {
  const { values } = parseArgs({
    options: {
      target: { type: "string", default: "localhost:50051" },
      record: { type: "string" },
      model: { type: "boolean", default: false },
      "timeout-ms": { type: "string", default: "5000" },
      ca: { type: "string" },
      "token-file": { type: "string" },
      "request-id": { type: "string" },
    },
  });
  if ((values.record === undefined) !== values.model) {
    return undefined;
  }
  const token = values["token-file"] && readFileSync(values["token-file"], "utf8").trim();
  return {
    target: values.target,
    record: values.record === undefined ? undefined : readRecord(values.record),
    ...(values["request-id"] !== undefined && { requestId: values["request-id"] }),
    options: {
      timeoutMs: Number(values["timeout-ms"]),
      ...(values.ca !== undefined && { ca: readFileSync(values.ca) }),
      ...(token !== undefined && { token }),
    },
  };
}

function readRecord(text: string): Record<string, Value> {
  const record: unknown = JSON.parse(text);
  if (typeof record !== "object" || record === null || Array.isArray(record)) {
    throw new TypeError(`--record is ${text.slice(0, 80)}; it must be a JSON object of names and values`);
  }
  return record as Record<string, Value>;
}

function report(error: PredictionError): void {
  console.error(`predict: error: ${status[error.code]} ${error.reason}: ${error.message}`);
  for (const violation of error.violations) {
    console.error(`  ${violation.field}: ${violation.description}`);
  }
  if (error.retryAfterMs !== undefined) {
    console.error(`  try again in ${error.retryAfterMs} ms`);
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  // Wrong arguments: files, JSON, flags.
  console.error(`predict: error: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 2;
}
