// Words and times as people of the page's language and of the station's zone write them.

export const told = JSON.parse(document.getElementById("told").textContent);
const locale = told.lang === "en" ? "en-GB" : told.lang;
const zone = { timeZone: told.zone, hourCycle: "h23" };
const two = { hour: "2-digit", minute: "2-digit" };
const formats = {
  clock: new Intl.DateTimeFormat(locale, { ...zone, ...two, second: "2-digit" }),
  minute: new Intl.DateTimeFormat(locale, { ...zone, ...two }),
  offset: new Intl.DateTimeFormat("en", { ...zone, timeZoneName: "shortOffset" }),
  parts: new Intl.DateTimeFormat("en", {
    ...zone, ...two, second: "2-digit", year: "numeric", month: "2-digit", day: "2-digit",
  }),
};

export function say(key, values = {}) {
  return told.words[key].replace(/\{(\w+)\}/g, (_all, name) => values[name]);
}

export const clock = (ms) => formats.clock.format(ms);
export const minute = (ms) => formats.minute.format(ms);

// Not every browser knows the months in Kazakh.
export function day(ms) {
  const [, month, number] = local(ms).day.split("-").map(Number);
  return `${number} ${told.months[month - 1]}`;
}

// Returns UTC+5.
export function offset(ms) {
  const found = formats.offset.formatToParts(ms).find((one) => one.type === "timeZoneName");
  return found.value.replace("GMT", "UTC");
}

// Returns { day: "2026-11-29", time: "14:22:07" } in the station's zone.
export function local(ms) {
  const parts = {};
  for (const { type, value } of formats.parts.formatToParts(ms)) parts[type] = value;
  return {
    day: `${parts.year}-${parts.month}-${parts.day}`,
    time: `${parts.hour}:${parts.minute}:${parts.second}`,
  };
}

// Returns the moment of a local time; of a time that comes twice, the first; of one that never
// comes, the moment an hour away from it.
export function utc(date, time) {
  const asked = Date.parse(`${date}T${time.length === 5 ? `${time}:00` : time}Z`);
  let found = asked;
  for (let n = 0; n < 3; n += 1) {
    const at = local(found);
    const wrong = asked - Date.parse(`${at.day}T${at.time}Z`);
    if (!wrong) break;
    found += wrong;
  }
  return found;
}

export function length(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return say("seconds", { seconds });
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return say("minutes", { minutes, seconds: seconds % 60 });
  return say("hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}

export function put(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}
