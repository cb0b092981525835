// The whole screen for the pictures; their controls fade there while nobody moves.
import { say } from "./text.mjs";

const FADE_MS = 3000;
const SIDEWAYS = "(orientation: landscape) and (max-height: 30rem)"; // a phone turned

export class Screen {
  #fades = 0;
  #sideways = matchMedia(SIDEWAYS);
  #left = false; // a person left it, while the phone was turned
  #hid = false; // controls were hidden when a finger or a key went down

  /**
   * @param {HTMLElement} stage
   * @param {HTMLElement} button
   */
  constructor(stage, button) {
    this.stage = stage;
    this.button = button;
    button.addEventListener("click", () => this.toggle());
    document.addEventListener("fullscreenchange", () => this.#follow());
    this.#sideways.addEventListener("change", () => {
      this.#left = false;
      this.#follow();
    });
    for (const type of ["pointermove", "pointerdown", "keydown", "focusin"]) {
      stage.addEventListener(type, () => {
        if (type.endsWith("down")) this.#hid = stage.classList.contains("idle");
        this.wake();
      });
    }
    this.#follow();
  }

  get whole() { return this.stage.classList.contains("whole"); }

  async toggle() {
    if (document.fullscreenElement) await document.exitFullscreen();
    else if (this.whole) {
      this.#left = true;
      this.#follow();
    } else if (this.stage.requestFullscreen) await this.stage.requestFullscreen();
    else this.#show(true); // iPhones have it for videos alone, without what we say over them
  }

  #follow() { this.#show(Boolean(document.fullscreenElement) || (this.#sideways.matches && !this.#left)); }

  /** @param {boolean} whole */
  #show(whole) {
    this.stage.classList.toggle("whole", whole);
    document.documentElement.classList.toggle("whole-screen", whole);
    const { dataset } = this.button;
    dataset.icon = whole ? "leave" : "full";
    this.button.ariaLabel = say(whole ? "leave" : "full");
    this.wake();
  }

  // Shows the controls, and hides them when nobody moves.
  wake() {
    this.stage.classList.remove("idle");
    clearTimeout(this.#fades);
    if (this.whole) this.#fades = setTimeout(() => {
      if (!this.stage.querySelector(":scope .panel :focus-visible")) this.stage.classList.add("idle");
    }, FADE_MS);
  }

  // Hides the controls at once, where the press did not show them: for a finger on the picture.
  tap() { if (!this.#hid) this.stage.classList.add("idle"); }
}
