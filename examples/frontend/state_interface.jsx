// useAgent with a shared state: the counterpart of ThinkingAgent in pages.py.
//
// Run: npm run build, then open the page of pages.py in two tabs.

import { useState } from "react";
import { useAgent } from "agents/react";

export function StateInterface() {
  const [state, setState] = useState({ counter: 0 });

  const agent = useAgent({
    agent: "thinking-agent",
    name: "my-agent",
    // Called for changes by others ("server") and for our own ("client").
    onStateUpdate: (next) => setState(next),
  });

  return (
    <>
      <p>Count: <output id="counter">{state.counter}</output></p>
      <button id="increment" onClick={() => agent.setState({ counter: state.counter + 1 })}>
        Increment
      </button>
    </>
  );
}
