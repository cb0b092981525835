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
  /** its MEDIA-SEQUENCE in the playlist that is put together here */
  place?: number;
  /** its DISCONTINUITY-SEQUENCE there */
  part?: number;
}

/** A gap: `to` is null while it lasts. */
interface Gap { no: number; from: number; to: number | null; words: string }

/** From and to. */
type Stretch = [number, number];

/** What is known of an angle's day. */
interface AngleDay { stretches: Stretch[]; gaps: Gap[]; state?: string; words?: string }

/** A camera in the answer of /api/v1/stations/{station}/timeline. */
interface TimelineCamera {
  id: string;
  state: string;
  words: string;
  recordings: { start_ms: number; end_ms: number }[];
  gaps: { gap_no: number; start_ms: number; end_ms: number | null; words: string }[];
}

/** How many bytes a camera takes: a minute of video, one picture; null where nobody knows. */
interface Takes {
  minute: number | null;
  low_minute: number | null;
  picture: number | null;
  low_picture: number | null;
}

/** A camera; `low`: its `all.m3u8` has a second stream, for slow links. */
interface Camera { id: string; title: string; picture: string; low: boolean; takes: Takes }

/** What the page of a station or of an embedded angle holds as JSON. */
interface Told {
  station: string;
  lang: string;
  zone: string;
  months: string[];
  now_ms: number;
  rewind_ms: number;
  t_ms: number | null;
  angle: string;
  chosen: boolean;
  cameras: Camera[];
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

/** A picture on the home page. */
interface Shown { station: string; camera: string; number: string; name: string; title: string; picture: string }

type Values = Record<string, string | number>;

interface Navigator {
  /** Chromium's; others do not tell. */
  connection?: { saveData: boolean; effectiveType: string; downlink: number };
}

interface HTMLVideoElement {
  /** iPhones' */
  webkitEnterFullscreen?(): void;
  /** Safari's: the date at which the video's time line begins */
  getStartDate?(): Date;
}
