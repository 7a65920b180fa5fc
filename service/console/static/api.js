/**
 * Requests to the service, with the key of the session.
 * @module
 */

/** @import { ProblemBody } from "./types.js" */
import { say } from "./strings.js";

/** An answer that is an error, with the service's own sentence. */
export class Problem extends Error {
  /**
   * @param {ProblemBody} body
   * @param {number | null} retryAfter Seconds.
   */
  constructor(body, retryAfter) {
    super(body.detail);
    this.code = body.code;
    this.status = body.status;
    this.requestId = body.request_id ?? null;
    this.retryAfter = retryAfter;
  }

  /**
   * Return the same problem with another sentence, for people who send no headers.
   * @param {string} detail
   * @returns {Problem}
   */
  inWords(detail) {
    return new Problem({ code: this.code, detail, status: this.status, request_id: this.requestId }, this.retryAfter);
  }
}

/** No answer arrived. */
export class NoAnswer extends Error {}

/**
 * @typedef {object} Options
 * @property {Record<string, string | number | boolean | null | undefined>} [query]
 * @property {unknown} [json]
 * @property {FormData} [form]
 * @property {Blob} [body]
 * @property {AbortSignal} [signal]
 */

const ATTEMPTS = 4;
const REFUSED = new Set([429, 503]);
const KEY_ENDED = new Set(["key_missing", "key_malformed", "key_wrong", "key_revoked", "key_expired"]);

/** The API. */
export class Api {
  /** @type {string | null} */
  key = null;

  /** Called when the key is missing, or not valid any more. @type {(problem: Problem) => void} */
  refused = () => {};

  /**
   * Send a request and return the parsed JSON.
   * @param {string} method
   * @param {string} path
   * @param {Options} [options]
   * @returns {Promise<any>}
   */
  async json(method, path, options = {}) {
    return (await this.send(method, path, options)).json();
  }

  /**
   * Send a request and return the response; one that was refused for load is sent again.
   * @param {string} method
   * @param {string} path Path without a slash at its beginning, so that it works behind a proxy.
   * @param {Options} [options]
   * @returns {Promise<Response>}
   */
  async send(method, path, options = {}) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#attempt(method, path, options);
      } catch (error) {
        if (!(error instanceof Problem) || !REFUSED.has(error.status) || attempt === ATTEMPTS) throw error;
        await new Promise((resolve) => setTimeout(resolve, 1000 * (error.retryAfter ?? attempt)));
      }
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {Options} options
   * @returns {Promise<Response>}
   */
  async #attempt(method, path, options) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(options.query ?? {})) {
      if (value !== null && value !== undefined && value !== "") query.set(name, String(value));
    }
    const headers = new Headers();
    const { key } = this;
    if (key !== null) headers.set("X-Api-Key", key.replace(/[^\x21-\x7e]/g, "?")); // other characters are in no key
    if (options.json !== undefined) headers.set("Content-Type", "application/json");
    const body = options.json === undefined ? (options.form ?? options.body ?? null) : JSON.stringify(options.json);
    let response;
    try {
      response = await fetch(query.size ? `${path}?${query}` : path, {
        method,
        headers,
        body,
        signal: options.signal ?? null,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
      });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new NoAnswer(say("api.no_answer"));
    }
    if (response.ok) return response;
    let problem = await problemOf(response);
    if (problem.code === "key_missing") problem = problem.inWords(say("key.title"));
    if (KEY_ENDED.has(problem.code) && key === this.key) this.refused(problem);
    throw problem;
  }
}

/**
 * Return the path of a gallery, a subject or a template.
 * @param {string} gallery
 * @param {...(string | number)} rest
 * @returns {string}
 */
export function galleryPath(gallery, ...rest) {
  return ["v1/galleries", encodeURIComponent(gallery), ...rest.map((part) => encodeURIComponent(part))].join("/");
}

/**
 * Return the milliseconds of the stages of a request.
 * @param {Response} response
 * @returns {[stage: string, ms: number][]}
 */
export function stagesOf(response) {
  const header = response.headers.get("Server-Timing") ?? "";
  return [...header.matchAll(/([a-z_]+);dur=([0-9.]+)/g)].map((match) => [String(match[1]), Number(match[2])]);
}

/**
 * @param {Response} response
 * @returns {Promise<Problem>}
 */
async function problemOf(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  try {
    const body = /** @type {ProblemBody} */ (await response.json());
    if (typeof body.detail === "string") return new Problem(body, retryAfter);
  } catch {
    // what answered is not the service
  }
  const detail = say("api.other_answer", { status: response.status });
  return new Problem({ code: "other", detail, status: response.status }, retryAfter);
}
