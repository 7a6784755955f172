// Express middleware that asks tollgate before each request. Needs Node 18.

const PASSED_ON = ["retry-after", "ratelimit", "ratelimit-policy"];

// `entries` makes the descriptor of a request, an object of strings. Without an answer within
// `timeout` milliseconds, a request passes only if `failOpen`.
export function rateLimit({ url, domain, entries, timeout = 100, failOpen = false }) {
  const ask = async (body) => {
    try {
      const signal = AbortSignal.timeout(timeout);
      const reply = await fetch(url, { method: "POST", body, signal });
      // The connection is used again once the answer has been read.
      await reply.arrayBuffer();
      return reply;
    } catch {
      return { status: 503, headers: new Headers() };
    }
  };

  return (req, res, next) => {
    const list = Object.entries(entries(req)).map(([key, value]) => ({ key, value }));
    const question = JSON.stringify({ domain, descriptors: [{ entries: list }] });
    ask(question)
      .then(({ status, headers }) => {
        // An answer 4xx means that the question was wrong. It never lets a request pass.
        if (status === 200 || (status >= 500 && failOpen)) {
          return next();
        }
        for (const name of PASSED_ON) {
          if (headers.has(name)) {
            res.setHeader(name, headers.get(name));
          }
        }
        res.statusCode = status === 429 ? 429 : 503;
        res.end();
      })
      .catch(next);
  };
}
