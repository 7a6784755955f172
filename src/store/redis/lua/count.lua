-- Counts hits in fixed windows, the fast path: the twin of `limit::fixed_window::step`.
-- tests/store holds the two to the same answers; change them together.
--
-- Hits on a counter that can take them are added without this script.
--
-- KEYS[1]  a counter: an integer, as INCRBY keeps it
-- ARGV[1]  how many milliseconds a counter outlives its window
-- ARGV[2]  hits to add; below 0 to give back; 0 to look
-- ARGV[3]  how many milliseconds the counter is kept from now on: until its window ends,
--          and ARGV[1]
-- ARGV[4]  how many milliseconds to put its expiry off if it has to be set, if there is
--          such an argument
--
-- Returns the counter before that; below 0 if calls hold hits there, and nothing was
-- counted. Something else than an integer counts for nothing, and is overwritten by hits.

-- `Hits::MAX`. What is larger has lost its last digits here, but not the fact
-- that it is larger. Numbers are formatted to be written: `tostring` keeps 14
-- digits, and this one has 16.
local MOST = 9007199254740991

-- Whether an error says that something else than an integer is kept.
local function foreign(answer)
  return type(answer) == 'table'
    and (string.find(answer.err, 'WRONGTYPE', 1, true) or string.find(answer.err, 'not an integer', 1, true))
end

-- Whether calls hold hits of the counter: see numbers.lua.
local function is_held(value)
  return type(value) == 'string' and string.find(value, '^%d*&%d+:%d+:%d+')
end

local key, grace, hits, ttl, more = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local lifetime = more and string.format('%.0f', ttl + more) or ttl
local found, before

local held = false
if 0 < hits then
  found = redis.pcall('INCRBY', key, ARGV[2])
  if type(found) ~= 'number' then
    before = string.find(found.err, 'overflow', 1, true) and MOST or foreign(found) and 0
    held = string.find(found.err, 'not an integer', 1, true) and is_held(redis.pcall('GET', key))
  elseif found <= MOST then
    before = math.max(found - hits, 0)
  else
    before = math.min(redis.call('DECRBY', key, ARGV[2]), MOST)
  end
else
  found = redis.pcall('GET', key) or '0'
  held = is_held(found)
  if type(found) == 'string' or foreign(found) then
    local number = type(found) == 'string' and string.match(found, '^%-?%d+$') or 0
    before = math.min(math.max(tonumber(number), 0), MOST)
    found = before
  end
end
if not before then
  return found
end

local after = math.min(math.max(before + hits, 0), MOST)
if held then
  before = -1
elseif after ~= found then
  -- Another client may have taken it out of its range. Rules with windows of different
  -- length may share it.
  local rest = redis.call('PTTL', key)
  local kept = tonumber(ttl) < rest and string.format('%.0f', rest) or lifetime
  redis.call('SET', key, string.format('%.0f', after), 'PX', kept)
elseif 0 < hits and (before == 0 or redis.call('PTTL', key) < tonumber(ttl) - grace) then
  -- It is new, or it would be gone before its window ends, or never.
  redis.call('PEXPIRE', key, lifetime)
end
return before
