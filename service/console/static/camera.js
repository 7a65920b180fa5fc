/**
 * A photo from the camera of this device.
 * @module
 */

import { el, fill } from "./dom.js";
import { say } from "./strings.js";

const QUALITY = 0.95;

/**
 * Show the camera, and return the photo that was taken; null if none was.
 * @returns {Promise<File | null>}
 */
export async function takePhoto() {
  const video = el("video", {
    autoplay: true,
    playsinline: true,
    muted: true,
    width: 480,
  });
  const failed = el("p", { class: "alert", role: "alert", hidden: true });
  const take = el("button", { type: "button", class: "main", disabled: true }, say("camera.take"));
  const close = el("button", { type: "button" }, say("camera.close"));
  const title = el("h1", { id: "camera-title" }, say("camera.title"));
  const dialog = el(
    "dialog",
    { "aria-labelledby": "camera-title" },
    title,
    video,
    failed,
    el("div", { class: "row" }, take, close),
  );
  document.body.append(dialog);
  dialog.showModal();
  /** @type {MediaStream | null} */
  let stream = null;
  try {
    return await new Promise((resolve) => {
      close.addEventListener("click", () => resolve(null));
      dialog.addEventListener("close", () => resolve(null));
      take.addEventListener("click", () => resolve(snapshot(video)));
      begin().catch((error) => {
        failed.hidden = false;
        fill(
          failed,
          say("camera.failed", {
            reason: error instanceof Error ? error.message : String(error),
          }),
        );
      });
    });
  } finally {
    for (const track of /** @type {MediaStream | null} */ (stream)?.getTracks() ?? []) track.stop();
    dialog.remove();
  }

  async function begin() {
    if (!navigator.mediaDevices) throw new Error(say("camera.no_https"));
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "user", width: { ideal: 1280 } },
    });
    if (!dialog.isConnected) {
      for (const track of stream.getTracks()) track.stop();
      return;
    }
    video.srcObject = stream;
    await video.play();
    take.disabled = false;
  }
}

/**
 * @param {HTMLVideoElement} video
 * @returns {Promise<File | null>}
 */
function snapshot(video) {
  const canvas = el("canvas", {
    width: video.videoWidth,
    height: video.videoHeight,
  });
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  return new Promise((resolve) =>
    canvas.toBlob(
      (blob) => resolve(blob && new File([blob], "camera.jpg", { type: blob.type })),
      "image/jpeg",
      QUALITY,
    ),
  );
}
