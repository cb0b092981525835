// What pages are told, and what scripts tell each other; times are UTC milliseconds.

/** A clock that tells what is now, or what is shown. */
interface Teller { now(): number }

/** A segment of a playlist. */
interface Segment {
  no: number;
  run: number;
  at: number;
  end: number;
  seconds: number;
}

/** A gap: `to` is null while it lasts. */
interface Gap { no: number; from: number; to: number | null; words: string }

/** From and to. */
type Stretch = [number, number];

/** What was recorded and cannot be had; the words say why. */
interface Gone { from: number; to: number; words: string }

/** What is known of an angle's day. */
interface AngleDay { stretches: Stretch[]; gaps: Gap[]; gone: Gone[]; state?: string; words?: string }

/** A camera in the answer of /api/v1/stations/{station}/timeline. */
interface TimelineCamera {
  id: string;
  state: string;
  words: string;
  recordings: { start_ms: number; end_ms: number; words?: string; second?: boolean }[];
  gaps: { gap_no: number; start_ms: number; end_ms: number | null; words: string }[];
}

/** How many bytes a camera takes: a minute of video, one picture; null where nobody knows. */
interface Takes {
  minute: number | null;
  low_minute: number | null;
  picture: number | null;
  low_picture: number | null;
}

interface Camera {
  id: string;
  title: string;
  /** its `all.m3u8` has a second stream, of fewer bytes */
  low: boolean;
  takes: Takes;
  /** IANA name of the time zone that is burned into its pictures, where that is known */
  picture_zone?: string | null;
}

/** What copies cost, in the smallest unit of the currency; `tax` in hundredths of a percent. */
interface Prices { currency: string; per_minute: number; minimum: number; tax: number; decimals: number }

/** What the page of a station or of an embedded angle holds as JSON. */
interface Told {
  station: string;
  lang: string;
  zone: string;
  months: string[];
  now_ms: number;
  rewind_ms: number;
  /** when any of its cameras is to be recorded, in order */
  windows: Stretch[];
  angle: string;
  chosen: boolean;
  number: string;
  name: string;
  cameras: Camera[];
  prices: Prices | null;
  words: Record<string, string>;
}

/** A station as the search finds it. */
interface FoundStation {
  id: string;
  number: string;
  name: string;
  address: string | null;
  district: string | null;
  region: string | null;
  live: number;
  cameras: unknown[];
}

type Values = Record<string, string | number>;

interface Navigator {
  /** Chromium's; others do not tell. */
  connection?: { saveData: boolean; effectiveType: string; downlink: number };
}

/** Safari's on iPhones, where there is no MediaSource. */
declare var ManagedMediaSource: typeof MediaSource | undefined;

interface HTMLVideoElement {
  /** Safari's: the date at which the video's time line begins */
  getStartDate?(): Date;
}
