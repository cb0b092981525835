// hls.js as pages load it: streaming/http/assets.py serves its light build as /static/…/hls.mjs.
export * from "hls.js";
export { default } from "hls.js";
