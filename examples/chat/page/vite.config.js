// In development the page comes from Vite, and what concerns agents goes to `durable dev`.
import { defineConfig } from "vite";

export default defineConfig({
  esbuild: { jsx: "automatic" },
  server: { proxy: { "/agents": { target: "http://127.0.0.1:8787", ws: true } } },
});
