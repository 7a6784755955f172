-- Counts hits in fixed windows: the twin of `limit::fixed_window::step`.
-- tests/store holds the two to the same answers; change them together.
--
-- KEYS[i]         a counter: an integer, as INCRBY keeps it
-- ARGV[1]         how many milliseconds a counter outlives its window
-- ARGV[2 * i]     hits to add; below 0 to give back; 0 to look
-- ARGV[2 * i + 1] how many milliseconds the counter is kept from now on:
--                 until its window ends, and ARGV[1]
--
-- Returns one number per key: the counter after that. Something else than an
-- integer counts for nothing, and is overwritten by hits.

-- `Hits::MAX`. What is larger has lost its last digits here, but not the fact
-- that it is larger. Numbers are formatted to be written: `tostring` keeps 14
-- digits, and this one has 16.
local MOST = 9007199254740991

-- Whether an error says that something else than an integer is kept.
local function foreign(answer)
  return type(answer) == 'table'
    and (string.find(answer.err, 'WRONGTYPE', 1, true) or string.find(answer.err, 'not an integer', 1, true))
end

local grace = tonumber(ARGV[1])
local counts = {}
for i, key in ipairs(KEYS) do
  local hits, ttl = tonumber(ARGV[2 * i]), ARGV[2 * i + 1]
  local before, after

  if 0 < hits then
    before = redis.pcall('INCRBY', key, ARGV[2 * i])
    if type(before) == 'number' then
      -- Another client may have taken it out of its range.
      after = math.min(math.max(before, hits), MOST)
    elseif string.find(before.err, 'overflow', 1, true) then
      after = MOST
    elseif foreign(before) then
      after = math.min(hits, MOST)
    end
    if after == hits or after == before and redis.call('PTTL', key) < tonumber(ttl) - grace then
      -- It is new, or it would be gone before its window ends, or never.
      redis.call('PEXPIRE', key, ttl)
    end
  else
    before = redis.pcall('GET', key) or '0'
    if type(before) == 'string' or foreign(before) then
      local number = type(before) == 'string' and string.match(before, '^%-?%d+$') or 0
      before = math.min(math.max(tonumber(number), 0), MOST)
      after = math.max(before + hits, 0)
    end
  end

  if not after then
    return before
  end
  if after ~= before then
    redis.call('SET', key, string.format('%.0f', after), 'PX', ttl)
  end
  counts[i] = after
end
return counts
