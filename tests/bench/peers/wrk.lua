-- Sends the bodies of the file $BENCH_BODIES in turn, each after its length in ten digits; prints the figures as JSON.
local requests, number = {}, 0

function init()
  local file = assert(io.open(os.getenv("BENCH_BODIES"), "rb"))
  while true do
    local length = file:read(10)
    if not length then break end
    requests[#requests + 1] = wrk.format("POST", nil, nil, file:read(tonumber(length)))
  end
end

function request()
  number = number % #requests + 1
  return requests[number]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answers": %d, "microseconds": %d, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d}\n',
    summary.requests, summary.duration, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
