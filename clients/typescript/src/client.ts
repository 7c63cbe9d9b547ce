/** A client of prediction.v1.PredictionService: a deadline for every call, TLS, tokens, typed errors. */

import * as grpc from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, RetryInfo } from "./generated/google/rpc/error_details.js";
import { Status } from "./generated/google/rpc/status.js";
import {
  GetModelRequest,
  type GetModelResponse,
  PredictionServiceClient,
  PredictRequest,
  type PredictResponse,
} from "./generated/prediction/v1/prediction_service.js";

/** A value of a record; null is a missing one. */
export type Value = number | boolean | string | null;

export interface ClientOptions {
  /** Time limit of a call with all its attempts, in milliseconds. 5000 if absent. */
  timeoutMs?: number;
  /** CAs of the server, PEM. TLS is on if they are there, or if `tls` is. */
  ca?: Buffer;
  /** Encrypt, with the CAs that Node.js brings along. */
  tls?: boolean;
  /** Sent with each call. Needs TLS, so that nobody on the way reads it. */
  token?: string;
}

export interface FieldViolation {
  /** Path in the request, such as `record["mean radius"]`. */
  field: string;
  /** The value that was sent and what is allowed. */
  description: string;
}

/** A call that failed. */
export class PredictionError extends Error {
  constructor(
    /** Kind of failure. */
    readonly code: grpc.status,
    message: string,
    /** Name of a value of ErrorReason without its prefix; empty if the server sent none. */
    readonly reason: string,
    /** The fields that do not fit the model. */
    readonly violations: readonly FieldViolation[],
    /** Time after which to call again; undefined if the server did not say. */
    readonly retryAfterMs: number | undefined,
    options: ErrorOptions,
  ) {
    super(message, options);
    this.name = "PredictionError";
  }
}

// Predictions change nothing, so UNAVAILABLE is tried again; no other code is.
const SERVICE_CONFIG = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [{ service: "prediction.v1.PredictionService" }],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.1s",
        maxBackoff: "1s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};

export class PredictionClient {
  readonly #stub: PredictionServiceClient;
  readonly #timeoutMs: number;

  /** Connects to `target`, such as `localhost:50051`, at its first call. */
  constructor(target: string, options: ClientOptions = {}) {
    this.#timeoutMs = options.timeoutMs ?? 5000;
    if (!(this.#timeoutMs > 0)) {
      throw new RangeError(`timeoutMs is ${this.#timeoutMs}; it must be above 0`);
    }
    this.#stub = new PredictionServiceClient(target, makeCredentials(options), {
      "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
    });
  }

  /** Predicts the class of one record: values by name, with all of the model's names and no other. */
  predict(record: Record<string, Value>, requestId?: string): Promise<PredictResponse> {
    const request = PredictRequest.fromPartial({ record });
    const metadata = new grpc.Metadata();
    if (requestId !== undefined) {
      metadata.set("x-request-id", requestId);
    }
    return this.#call((done) => this.#stub.predict(request, metadata, this.#limit(), done));
  }

  /** Describes the model that answers. */
  getModel(): Promise<GetModelResponse> {
    const request = GetModelRequest.create();
    return this.#call((done) => this.#stub.getModel(request, new grpc.Metadata(), this.#limit(), done));
  }

  /** Closes the connections. */
  close(): void {
    this.#stub.close();
  }

  #limit(): grpc.CallOptions {
    return { deadline: Date.now() + this.#timeoutMs };
  }

  #call<T>(begin: (done: (error: grpc.ServiceError | null, answer: T) => void) => unknown): Promise<T> {
    return new Promise((resolve, reject) => {
      begin((error, answer) => (error === null ? resolve(answer) : reject(toPredictionError(error))));
    });
  }
}

function makeCredentials({ ca, tls, token }: ClientOptions): grpc.ChannelCredentials {
  if (ca === undefined && !tls) {
    if (token !== undefined) {
      throw new Error("a token needs TLS; give the server's CAs, or tls: true");
    }
    return grpc.credentials.createInsecure();
  }
  const channel = grpc.credentials.createSsl(ca);
  if (token === undefined) {
    return channel;
  }
  const call = grpc.credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${token}`);
    done(null, metadata);
  });
  return grpc.credentials.combineChannelCredentials(channel, call);
}

/** Reads the google.rpc details of an error; one without them, or with broken ones, is still an error. */
function toPredictionError(error: grpc.ServiceError): PredictionError {
  const details = readDetails(error.metadata);
  const delay = details.retry?.retryDelay;
  return new PredictionError(
    error.code,
    error.details,
    details.info?.reason ?? "",
    details.request?.fieldViolations ?? [],
    delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6,
    { cause: error },
  );
}

interface Details {
  info?: ErrorInfo;
  request?: BadRequest;
  retry?: RetryInfo;
}

function readDetails(metadata: grpc.Metadata | undefined): Details {
  const details: Details = {};
  const [packed] = metadata?.get("grpc-status-details-bin") ?? [];
  if (!(packed instanceof Buffer)) {
    return details;
  }
  try {
    for (const { typeUrl, value } of Status.decode(packed).details) {
      const name = typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
      if (name === "google.rpc.ErrorInfo") details.info = ErrorInfo.decode(value);
      if (name === "google.rpc.BadRequest") details.request = BadRequest.decode(value);
      if (name === "google.rpc.RetryInfo") details.retry = RetryInfo.decode(value);
    }
  } catch {
    // The bytes are no message: what was read before them stays.
  }
  return details;
}
