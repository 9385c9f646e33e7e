// One program for the page and for its worker, which reads it from the page.
import { start } from "./main.js";
import { serve } from "./worker.js";

if (typeof document === "undefined") serve();
else start(document.currentScript.textContent);
