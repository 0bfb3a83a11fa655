-- Prints what wrk found as one line of JSON. It has no function that is called for a request, so it
-- costs nothing while wrk works.
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\nJSON{"count": %d, "bytes": %d, "seconds": %f, "p50": %f, "p99": %f, "p999": %f, "errors": %d}\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6, latency:percentile(99.9) / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
