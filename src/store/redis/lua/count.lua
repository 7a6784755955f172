-- Counts hits in a fixed window: the twin of `limit::fixed_window::step`. Tests compare the two;
-- change them together. The script runs only for counters that INCRBY cannot handle.
--
-- KEYS[1]  a counter: an integer, as INCRBY keeps it
-- ARGV[1]  the time in milliseconds for which a key outlives its window
-- ARGV[2]  the hits to add; below 0 for a refund, 0 to read
-- ARGV[3]  the time in milliseconds until the key expires: the rest of its window, and ARGV[1]
-- ARGV[4]  optional: the jitter of the expiry in milliseconds
--
-- Returns the counter before; -1 if calls hold hits of it, and nothing was counted. Any value
-- that is not an integer counts as 0, and is overwritten by hits.

-- `Hits::MAX`. A larger number loses its last digits here, but stays larger. Numbers are
-- formatted before they are written, as `tostring` keeps 14 digits only.
local MAX_NUMBER = 9007199254740991

-- Returns true for the error of a command on a value that is not an integer.
local function is_not_integer(reply)
  return type(reply) == 'table'
    and (string.find(reply.err, 'WRONGTYPE', 1, true) or string.find(reply.err, 'not an integer', 1, true))
end

-- Returns true if calls hold hits of the counter: see numbers.lua.
local function has_holds(value)
  return type(value) == 'string' and string.find(value, '^%d*&%d+:%d+:%d+')
end

local key, slack, hits, ttl, jitter = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local jittered_ttl = jitter and string.format('%.0f', ttl + jitter) or ttl
local stored, before

local held = false
if 0 < hits then
  stored = redis.pcall('INCRBY', key, ARGV[2])
  if type(stored) ~= 'number' then
    before = string.find(stored.err, 'overflow', 1, true) and MAX_NUMBER or is_not_integer(stored) and 0
    held = string.find(stored.err, 'not an integer', 1, true) and has_holds(redis.pcall('GET', key))
  elseif stored <= MAX_NUMBER then
    before = math.max(stored - hits, 0)
  else
    before = math.min(redis.call('DECRBY', key, ARGV[2]), MAX_NUMBER)
  end
else
  stored = redis.pcall('GET', key) or '0'
  held = has_holds(stored)
  if type(stored) == 'string' or is_not_integer(stored) then
    local number = type(stored) == 'string' and string.match(stored, '^%-?%d+$') or 0
    before = math.min(math.max(tonumber(number), 0), MAX_NUMBER)
    stored = before
  end
end
if not before then
  return stored
end

local after = math.min(math.max(before + hits, 0), MAX_NUMBER)
if held then
  before = -1
elseif after ~= stored then
  -- Another client may have taken the counter out of its range. Rules with windows of different
  -- lengths may share the key.
  local remaining = redis.call('PTTL', key)
  local new_ttl = tonumber(ttl) < remaining and string.format('%.0f', remaining) or jittered_ttl
  redis.call('SET', key, string.format('%.0f', after), 'PX', new_ttl)
elseif 0 < hits and (before == 0 or redis.call('PTTL', key) < tonumber(ttl) - slack) then
  -- The key is new, expires before its window ends, or has no expiry.
  redis.call('PEXPIRE', key, jittered_ttl)
end
return before
