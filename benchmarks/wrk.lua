-- The numbers of one run, as one line of JSON. Method, headers and body come from the environment.
wrk.method = os.getenv("METHOD")
wrk.headers["Authorization"] = os.getenv("AUTHORIZATION")
wrk.body = os.getenv("BODY")

local turn = 0
if wrk.body:find("{turn}", 1, true) then
  function request()
    turn = turn + 1
    return wrk.format(nil, nil, nil, (wrk.body:gsub("{turn}", turn % 2 + 1)))
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"rate": %.1f, "p50": %.3f, "p99": %.3f, "errors": %d}\n',
    summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000,
    latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
