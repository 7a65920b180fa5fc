/**
 * What the API answers, as far as the console reads it; the whole is in `/openapi.json`.
 * @module
 */

/** @typedef {{ box: number[], landmarks: number[][], score: number, quality: number | null, reasons: string[] }} Face */
/** @typedef {Face & { embedding: number[], norm: number }} EmbeddedFace */
/** @typedef {{ code: string, detail: string, status: number, part?: string | null, request_id?: string | null }} ProblemBody */

/**
 * @typedef {object} Point
 * @property {string} name
 * @property {number} rate
 * @property {number} threshold
 * @property {number[]} interval
 * @property {number[]} threshold_interval
 * @property {number} fnmr
 * @property {number[]} fnmr_interval
 * @property {string} measured_on
 */

/**
 * @typedef {object} Verification
 * @property {number} similarity
 * @property {string | null} decision
 * @property {Point | null} operating_point
 * @property {number} comparisons
 * @property {number | null} false_match_rate
 * @property {number | null} log_likelihood_ratio
 * @property {string | null} uncalibrated_because
 * @property {Face | null} probe
 * @property {Face | null} reference
 */

/** @typedef {{ gallery: string, subject: string, similarity: number }} Candidate */
/** @typedef {Face & { decision: string | null, candidates: Candidate[], refusal: ProblemBody | null }} IdentifiedFace */

/**
 * @typedef {object} Identification
 * @property {{ status: string, width: number, height: number, faces: IdentifiedFace[] }[]} items
 * @property {Point | null} operating_point
 * @property {number} comparisons
 * @property {number | null} fpir_bound
 * @property {string | null} uncalibrated_because
 */

/**
 * @typedef {object} Gallery
 * @property {string} gallery
 * @property {string} index
 * @property {string | null} serving
 * @property {number} dimensions
 * @property {number} subject_count
 * @property {number} template_count
 * @property {boolean} keep_crops
 * @property {number} min_quality
 * @property {number} retain_days
 * @property {string} created
 */

/** @typedef {{ subject: string, template_count: number, metadata: object, created: string, expires: string | null }} Subject */
/** @typedef {{ template: number, quality: number | null, created: string, crop: boolean, expires: string | null }} Template */
/** @typedef {{ erasure: number, erased: string, subject_count: number, template_count: number, crop_count: number }} Receipt */
/** @typedef {{ mated: number[], non_mated: number[] }} Distribution */

/** @typedef {{ default_operating_point: string, operating_points: Point[], distribution: Distribution | null, score_map: { knots: [number, number][] } }} Calibration */

/**
 * @typedef {object} Access
 * @property {{ id: string, name: string, expires: string | null } | null} key
 * @property {string[]} scopes
 * @property {string[] | null} galleries
 */

export {};
