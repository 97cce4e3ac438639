// The login form: sent without leaving the page, so that every answer is shown in words. Without scripts it works too.

import { $, pause } from "./dom.js";
import { Failure } from "./net.js";
import { t } from "./words.js";

const TRIES = 5;

/** Send the token until there is an answer to it; a sentence if it was not accepted. */
async function logIn(form, show) {
  for (let attempt = 1; ; attempt++) {
    let failure = new Failure(0);
    try {
      const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      if (response.ok) return "";
      if (response.status === 401) return t("wrong_token");
      failure = await Failure.of(response);
    } catch { /* there was no answer */ }
    if (!failure.isBusy || attempt === TRIES) return failure.reason;
    show(t("busy"));
    await pause(failure.waitMs(attempt));
  }
}

const form = document.querySelector("form"), wrong = document.querySelector(".wrong"), button = form.querySelector("button");
const show = (sentence) => { wrong.textContent = sentence; wrong.hidden = !sentence; };

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  const sentence = await logIn(form, show);
  button.disabled = false;
  show(sentence);
  if (!sentence) return location.assign("/");
  $("token").select();
});
