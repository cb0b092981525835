// Recordings are fragmented MP4 (docs/formats.md; ISO/IEC 14496-12): an init for each run, then one
// `moof` and one `mdat` for each segment, the samples of the picture first. Read here, and written
// anew without the sound, or with one picture alone. Pure functions over bytes.

/** @typedef {{ type: string, from: number, body: number, to: number }} Box */

const view = (/** @type {Uint8Array} */ data) => new DataView(data.buffer, data.byteOffset, data.byteLength);
const hex = (/** @type {number[] | Uint8Array} */ bytes) => [...bytes].map((one) => one.toString(16).padStart(2, "0")).join("");

/**
 * Returns the boxes in a stretch of bytes; one that is not all there yet is left out.
 * @param {Uint8Array} data
 * @param {number} from
 * @param {number} to
 */
export function boxes(data, from = 0, to = data.length) {
  /** @type {Box[]} */
  const found = [];
  const bytes = view(data);
  for (let at = from; at + 8 <= to;) {
    const size = bytes.getUint32(at);
    if (size < 8) throw new Error(`a box of ${size} bytes`);
    if (at + size > to) break;
    found.push({ type: String.fromCharCode(...data.subarray(at + 4, at + 8)), from: at, body: at + 8, to: at + size });
    at += size;
  }
  return found;
}

/**
 * Returns the first box down a path.
 * @param {Uint8Array} data
 * @param {Box} parent
 * @param {string[]} path
 */
function child(data, parent, ...path) {
  let found = parent;
  for (const type of path) {
    const next = boxes(data, found.body, found.to).find((one) => one.type === type);
    if (!next) throw new Error(`no ${type}`);
    found = next;
  }
  return found;
}

/**
 * @param {string} type
 * @param {Uint8Array[]} parts
 */
function box(type, ...parts) {
  const made = new Uint8Array(8 + parts.reduce((sum, one) => sum + one.length, 0));
  view(made).setUint32(0, made.length);
  for (let n = 0; n < 4; n += 1) made[4 + n] = type.charCodeAt(n);
  let at = 8;
  for (const part of parts) {
    made.set(part, at);
    at += part.length;
  }
  return made;
}

/** @param {number[]} values */
function words(...values) {
  const made = new Uint8Array(4 * values.length);
  values.forEach((value, n) => view(made).setUint32(4 * n, value));
  return made;
}

/**
 * What an init says: the picture's track, with what its samples have where a segment does not say it
 * (duration, size, flags); `mime` and init of the picture alone, and of picture with sound.
 * @param {Uint8Array} data
 */
export function readInit(data) {
  const moov = boxes(data).find((one) => one.type === "moov");
  if (!moov) throw new Error("no moov");
  const tracks = boxes(data, moov.body, moov.to).filter((one) => one.type === "trak").map((trak) => {
    const tkhd = child(data, trak, "tkhd");
    const mdhd = child(data, trak, "mdia", "mdhd");
    const stsd = child(data, trak, "mdia", "minf", "stbl", "stsd");
    const at = (/** @type {Box} */ one) => view(data).getUint32(one.body + (data[one.body] ? 20 : 12));
    return { id: at(tkhd), timescale: at(mdhd), codec: codec(data, boxes(data, stsd.body + 8, stsd.to)[0]) };
  });
  const video = tracks.find((one) => !one.codec.startsWith("mp4a"));
  if (!video) throw new Error("no picture");
  const trex = boxes(data, child(data, moov, "mvex").body, moov.to)
    .find((one) => one.type === "trex" && view(data).getUint32(one.body + 4) === video.id);
  const mime = (/** @type {{ codec: string }[]} */ some) => `video/mp4; codecs="${some.map((one) => one.codec).join(",")}"`;
  const sound = tracks.filter((one) => one !== video);
  return {
    video: video.id,
    timescale: video.timescale,
    defaults: trex ? [12, 16, 20].map((by) => view(data).getUint32(trex.body + by)) : [0, 0, 0],
    sounds: sound.length > 0,
    silent: { mime: mime([video]), data: without(data, new Set(sound.map((one) => one.id))) },
    whole: { mime: mime([video, ...sound]), data },
  };
}

/**
 * Returns a track's codec as browsers want to have it (RFC 6381; ISO/IEC 14496-15, annex E).
 * @param {Uint8Array} data
 * @param {Box} entry
 */
function codec(data, entry) {
  if (entry.type === "mp4a") return "mp4a.40.2";
  const parts = boxes(data, entry.body + 78, entry.to); // after the fields of a visual sample entry
  const avcc = parts.find((one) => one.type === "avcC");
  if (avcc) return `${entry.type}.${hex(data.subarray(avcc.body + 1, avcc.body + 4))}`;
  const hvcc = parts.find((one) => one.type === "hvcC");
  if (!hvcc) return entry.type;
  const [profile, , , , , , , , , , , level] = data.subarray(hvcc.body + 1, hvcc.body + 13);
  const compatible = view(data).getUint32(hvcc.body + 2);
  let reversed = 0;
  for (let n = 0; n < 32; n += 1) reversed = (reversed * 2) + ((compatible >>> n) & 1);
  const constraints = [...data.subarray(hvcc.body + 6, hvcc.body + 12)];
  while (constraints.length && !constraints.at(-1)) constraints.pop();
  return [
    entry.type,
    ["", "A", "B", "C"][profile >> 6] + (profile & 31),
    reversed.toString(16),
    (profile & 32 ? "H" : "L") + level,
    ...constraints.map((one) => one.toString(16)),
  ].join(".");
}

/**
 * Returns an init without some tracks.
 * @param {Uint8Array} data
 * @param {Set<number>} gone
 */
function without(data, gone) {
  if (!gone.size) return data;
  /** @type {(from: number, to: number) => Uint8Array[]} */
  const kept = (from, to) => boxes(data, from, to).flatMap((one) => {
    if (one.type === "moov" || one.type === "mvex") return [box(one.type, ...kept(one.body, one.to))];
    if (one.type === "trak") {
      const { body } = child(data, one, "tkhd");
      if (gone.has(view(data).getUint32(body + (data[body] ? 20 : 12)))) return [];
    }
    if (one.type === "trex" && gone.has(view(data).getUint32(one.body + 4))) return [];
    return [data.subarray(one.from, one.to)];
  });
  const parts = kept(0, data.length);
  const made = new Uint8Array(parts.reduce((sum, one) => sum + one.length, 0));
  let at = 0;
  for (const part of parts) {
    made.set(part, at);
    at += part.length;
  }
  return made;
}

/** @typedef {Pick<ReturnType<typeof readInit>, "video" | "defaults">} Track of the picture */

/**
 * What a segment says of its pictures; null while its `moof` is not all there.
 *
 * `tfdt` counts from the beginning of the run, `rows` have duration, size, flags and composition
 * offset of each picture. `at` is where the first picture's bytes begin.
 * @param {Uint8Array} data
 * @param {Track} track
 */
export function readSegment(data, { video, defaults }) {
  const [moof] = boxes(data);
  if (!moof) return null;
  const bytes = view(data);
  for (const traf of boxes(data, moof.body, moof.to).filter((one) => one.type === "traf")) {
    const tfhd = child(data, traf, "tfhd");
    if (bytes.getUint32(tfhd.body + 4) !== video) continue;
    const tfdt = child(data, traf, "tfdt");
    const { rows, at } = runOf(bytes, child(data, traf, "trun"), own(bytes, tfhd, defaults));
    return {
      sequence: bytes.getUint32(child(data, moof, "mfhd").body + 4),
      tfdt: bytes.getUint8(tfdt.body) ? Number(bytes.getBigUint64(tfdt.body + 4)) : bytes.getUint32(tfdt.body + 4),
      rows,
      at: moof.from + at,
      independent: rows.length > 0 && !(rows[0][2] & 0x10000),
    };
  }
  return null;
}

/**
 * Returns what a track fragment's header says of all its samples (8.8.7).
 * @param {DataView} bytes
 * @param {Box} tfhd
 * @param {number[]} defaults
 */
function own(bytes, { body }, defaults) {
  const flags = bytes.getUint32(body);
  let at = body + 8 + (flags & 0x1 ? 8 : 0) + (flags & 0x2 ? 4 : 0);
  return defaults.map((one, n) => {
    if (!(flags & (0x8 << n))) return one;
    at += 4;
    return bytes.getUint32(at - 4);
  });
}

/**
 * Returns the samples of a run, and where their bytes begin from the `moof` on (8.8.8).
 * @param {DataView} bytes
 * @param {Box} trun
 * @param {number[]} defaults duration, size, flags
 */
function runOf(bytes, { body, to }, defaults) {
  const flags = bytes.getUint32(body);
  const count = bytes.getUint32(body + 4);
  let place = body + 8;
  const take = () => {
    place += 4;
    return bytes.getUint32(place - 4);
  };
  const at = flags & 0x1 ? take() : 0;
  const first = flags & 0x4 ? take() : defaults[2];
  const width = 4 * [0x100, 0x200, 0x400, 0x800].filter((one) => flags & one).length;
  if (place + count * width > to) throw new Error(`a run of ${count} pictures does not fit its box`);
  /** @type {number[][]} */
  const rows = [];
  for (let n = 0; n < count; n += 1) {
    const [duration, size] = [0x100, 0x200].map((one, m) => (flags & one ? take() : defaults[m]));
    const said = flags & 0x400 ? take() : n ? defaults[2] : first;
    rows.push([duration, size, said, flags & 0x800 ? take() : 0]);
  }
  return { rows, at };
}

/** @typedef {NonNullable<ReturnType<typeof readSegment>>} Pictures */

/**
 * Returns a segment with the pictures alone.
 * @param {Uint8Array} data
 * @param {Track} track
 */
export function silent(data, track) {
  const said = readSegment(data, track);
  if (!said) throw new Error("no picture");
  return written(said, said.rows, data, track);
}

/**
 * Returns a segment with its first picture alone, which stands for a while; null while its bytes
 * are not all there.
 * @param {Uint8Array} data the beginning of a segment at least
 * @param {Track} track
 * @param {number} duration in the track's timescale
 */
export function firstPicture(data, track, duration) {
  const said = readSegment(data, track);
  if (!said?.rows.length || data.length < said.at + said.rows[0][1]) return null;
  const [[, size, flags, offset]] = said.rows;
  return written(said, [[duration, size, flags, offset]], data, track);
}

/**
 * Returns how many bytes of a segment hold its `moof` and first picture; 0 while that is unknown.
 * @param {Uint8Array} data
 * @param {Track} track
 */
export function pictureLength(data, track) {
  const said = readSegment(data, track);
  return said?.rows.length ? said.at + said.rows[0][1] : 0;
}

/**
 * @param {Pictures} said
 * @param {number[][]} rows
 * @param {Uint8Array} data
 * @param {Track} track
 */
function written(said, rows, data, track) {
  const length = rows.reduce((sum, one) => sum + one[1], 0);
  const first = 8 + 16 + 8 + 16 + 20 + 20 + 16 * rows.length + 8; // of `moof`, down to the head of `mdat`
  const high = Math.floor(said.tfdt / 2 ** 32);
  const traf = box("traf",
    box("tfhd", words(0x20000, track.video)),
    box("tfdt", words(0x1000000, high, said.tfdt >>> 0)),
    box("trun", words(0x1000f01, rows.length, first, ...rows.flat())));
  const moof = box("moof", box("mfhd", words(0, said.sequence)), traf);
  const mdat = box("mdat", data.subarray(said.at, said.at + length));
  const made = new Uint8Array(moof.length + mdat.length);
  made.set(moof);
  made.set(mdat, moof.length);
  return made;
}
