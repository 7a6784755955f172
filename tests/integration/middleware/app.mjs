// A server with the Express middleware, which is called as Express calls it.

import { createServer } from "node:http";

const [host, port, url, example] = process.argv.slice(2);
const { rateLimit } = await import(`${example}/rate-limit.mjs`);

const entries = (req) => ({ user: req.headers["x-user"] });
const limited = (timeout, failOpen) =>
  rateLimit({ url, domain: "shop", entries, timeout, failOpen });
const middleware = {
  "/patient": limited(60_000, true),
  "/open": limited(300, true),
  "/closed": limited(300, false),
};

createServer((req, res) => {
  middleware[req.url](req, res, (error) => {
    res.statusCode = error ? 500 : 200;
    res.end(error ? "" : "hello");
  });
}).listen(Number(port), host);
