// NumPy's random numbers in JavaScript: numpy.random.default_rng(seed).random(n, dtype=numpy.float32), bit for bit.
//
// The generator is PCG64 (XSL-RR 128/64, O'Neill 2014), seeded by NumPy's SeedSequence, which mixes a seed of
// any size into 256 bits.

const WORD = 0xffffffffn;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;

/** The seed's words of 32 bits, the lowest first. */
function wordsOf(seed) {
  const words = [];
  for (let rest = seed; rest > 0n; rest >>= 32n) words.push(Number(rest & WORD));
  return words.length ? words : [0];
}

/** A multiplicative hash whose constant changes with every word. */
function hasher(constant, multiplier) {
  return (word) => {
    let value = word ^ constant;
    constant = Math.imul(constant, multiplier);
    value = Math.imul(value, constant);
    return value ^ (value >>> 16);
  };
}

function mix(x, y) {
  const value = Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y);
  return value ^ (value >>> 16);
}

/** What SeedSequence(seed).generate_state(8) gives: eight words of 32 bits. */
export function seedSequence(seed) {
  const words = wordsOf(seed);
  const hash = hasher(0x43b0d7e5, 0x931e8875);
  const pool = [0, 1, 2, 3].map((i) => hash(words[i] ?? 0));
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) if (to !== from) pool[to] = mix(pool[to], hash(pool[from]));
  }
  for (const word of words.slice(4)) {
    for (let to = 0; to < 4; to++) pool[to] = mix(pool[to], hash(word));
  }
  const output = hasher(0x8b51f9dd, 0x58f38ded);
  return Array.from({ length: 8 }, (_, i) => output(pool[i % 4]) >>> 0);
}

export class Uniforms {
  #state;
  #increment;
  #kept = null; // the upper half of a number whose lower half has been given out

  /** @param {bigint} seed at least 0 */
  constructor(seed) {
    const words = seedSequence(seed).map(BigInt);
    const number = (i) => (((((words[i + 1] << 32n) | words[i]) << 32n) | words[i + 3]) << 32n) | words[i + 2];
    this.#increment = BigInt.asUintN(128, (number(4) << 1n) | 1n);
    this.#state = BigInt.asUintN(128, this.#increment + number(0));
    this.#step();
  }

  #step() {
    this.#state = BigInt.asUintN(128, this.#state * MULTIPLIER + this.#increment);
  }

  /** The next 32 bits. */
  #word() {
    if (this.#kept !== null) {
      const word = this.#kept;
      this.#kept = null;
      return word;
    }
    this.#step();
    const folded = BigInt.asUintN(64, (this.#state >> 64n) ^ this.#state);
    const turn = this.#state >> 122n;
    const rotated = (folded >> turn) | BigInt.asUintN(64, folded << (64n - turn));
    this.#kept = Number(rotated >> 32n);
    return Number(rotated & WORD);
  }

  /** The next n numbers in [0, 1), each a multiple of 2^-24. */
  next(n) {
    return Float32Array.from({ length: n }, () => (this.#word() >>> 8) / 2 ** 24);
  }
}
