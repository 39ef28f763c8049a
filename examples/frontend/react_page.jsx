// Puts the two React samples on the page.
//
// Run: npm run build

import { Suspense } from "react";
import { createRoot } from "react-dom/client";
import { AgentInterface } from "./agent_interface.jsx";
import { StateInterface } from "./state_interface.jsx";

for (const [id, Sample] of [["state", StateInterface], ["messages", AgentInterface]]) {
  createRoot(document.getElementById(id)).render(
    <Suspense fallback="…"><Sample /></Suspense>,
  );
}
