// The clock on the wall of a time zone: pure arithmetic over Intl.

const TWO = /** @type {const} */ ({ hour: "2-digit", minute: "2-digit", second: "2-digit" });

export class Zone {
  #parts;
  #offset;

  /** @param {string} timeZone IANA name, as Asia/Almaty */
  constructor(timeZone) {
    this.#parts = new Intl.DateTimeFormat("en", {
      ...TWO, timeZone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit",
    });
    this.#offset = new Intl.DateTimeFormat("en", { timeZone, timeZoneName: "shortOffset" });
  }

  /**
   * Returns { day: "2026-11-29", time: "14:22:07" }.
   * @param {number} ms
   */
  local(ms) {
    /** @type {Record<string, string>} */
    const parts = {};
    for (const { type, value } of this.#parts.formatToParts(ms)) parts[type] = value;
    return {
      day: `${parts.year}-${parts.month}-${parts.day}`,
      time: `${parts.hour}:${parts.minute}:${parts.second}`,
    };
  }

  /**
   * Returns the moment of a local time; of a time that comes twice, the first; of one that never
   * comes, the moment an hour away from it; NaN of what is none, as of an empty field.
   * @param {string} date as 2026-11-29
   * @param {string} time as 14:22 or 14:22:07
   */
  utc(date, time) {
    const asked = Date.parse(`${date}T${time.length === 5 ? `${time}:00` : time}Z`);
    if (Number.isNaN(asked)) return NaN;
    let found = asked;
    for (let n = 0; n < 3; n += 1) {
      const at = this.local(found);
      const wrong = asked - Date.parse(`${at.day}T${at.time}Z`);
      if (!wrong) break;
      found += wrong;
    }
    const same = (/** @type {number} */ ms) => this.local(ms).time === this.local(found).time;
    return found - ([3_600_000, 1_800_000].find((back) => same(found - back)) ?? 0);
  }

  /**
   * Returns the beginning and the end of the day that holds a moment.
   * @param {number} moment
   * @returns {Stretch}
   */
  dayOf(moment) {
    const start = this.utc(this.local(moment).day, "00:00:00");
    return [start, this.utc(this.local(start + 26 * 3_600_000).day, "00:00:00")];
  }

  /**
   * Returns UTC+5.
   * @param {number} ms
   */
  offset(ms) {
    const found = this.#offset.formatToParts(ms).find((one) => one.type === "timeZoneName");
    return (found?.value ?? "").replace("GMT", "UTC");
  }
}
