// Loads bytes: measured, in part where only a part is needed, given up when none come any more.

/** @import { Link } from "./link.mjs" */

const SILENCE_MS = 8000; // so long no byte may come

// The server does not have it.
export class Missing extends Error {}

// The server answered that something is wrong with it.
export class Failed extends Error {}

// Nothing came, or not all of it.
export class Away extends Error {}

/**
 * Returns the bytes of an address or a part of them, and how many there are in all; throws Missing,
 * Failed, Away.
 * @param {string} address
 * @param {{ link: Link, abort?: AbortController, onBytes?: () => void, range?: [from: number, to: number] }} how
 */
export async function load(address, { link, abort = new AbortController(), onBytes, range }) {
  const measured = link.begin();
  const wait = () => setTimeout(() => abort.abort(), SILENCE_MS);
  let timer = wait();
  try {
    const answer = await fetch(address, {
      signal: abort.signal,
      headers: range ? { Range: `bytes=${range[0]}-${range[1] - 1}` } : {},
    });
    measured.head();
    if (answer.status === 404 || answer.status === 410) throw new Missing(address);
    if (!answer.ok || !answer.body) throw new Failed(`${answer.status} ${address}`);
    /** @type {Uint8Array[]} */
    const parts = [];
    for (const reader = answer.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      measured.got(value.length);
      onBytes?.();
      clearTimeout(timer);
      timer = wait();
      parts.push(value);
    }
    const data = joined(parts);
    const told = /\/(\d+)$/.exec(answer.headers.get("Content-Range") ?? "");
    return { data, total: told ? Number(told[1]) : data.length };
  } catch (error) {
    throw error instanceof Missing || error instanceof Failed ? error : new Away(`${address}: ${error}`);
  } finally {
    clearTimeout(timer);
    measured.end();
  }
}

/** @param {Uint8Array[]} parts */
export function joined(parts) {
  if (parts.length === 1) return parts[0];
  const made = new Uint8Array(parts.reduce((sum, one) => sum + one.length, 0));
  let at = 0;
  for (const part of parts) {
    made.set(part, at);
    at += part.length;
  }
  return made;
}
