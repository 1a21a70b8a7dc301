-- wrk's script: requests with the cookies of a file, one after the other; the result as a line of JSON.
-- With a second argument, also how many attempts the replies' Server-Timing tells of.
local requests, last = {}, 0
-- Global, so that `done` can read them of each thread.
attempts, told = 0, 0
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  for cookie in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("GET", nil, { ["Cookie"] = cookie })
  end
  if arguments[2] then
    response = function(status, headers)
      local number = status == 200 and string.match(headers["Server-Timing"] or "", "attempts;desc=(%d+)")
      if number then
        attempts = attempts + number
        told = told + 1
      end
    end
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency)
  local all, of = 0, 0
  for _, thread in ipairs(threads) do
    all = all + thread:get("attempts")
    of = of + thread:get("told")
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"refused":%d,"broken":%d,"attempts":%d,"told":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout, all, of))
end
