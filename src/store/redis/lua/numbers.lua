-- The format of counters, and helpers for the functions of the algorithms (src/limit), which
-- follow.
--
-- A counter's value is the text of its state, then `!` and the start of a ban, if there is one,
-- then `&id:hits:expires_at` for each call that holds hits. Each part may be absent. A binary
-- state begins with `#` and, in four bytes, the number of its bytes that follow the `#`, these
-- four included. Numbers are whole and below 2^53; times are in microseconds unless noted
-- otherwise. Any other value counts as empty, and is overwritten.
--
-- Numbers are added, subtracted, multiplied and compared where the result is exact, or so
-- large that the comparison is right despite rounding. Whole numbers below 2^53 may also be
-- divided if the quotient is rounded to a whole number: the error of the division is less than
-- the distance to the next one.

local MAX_NUMBER = 9007199254740991 -- `Hits::MAX`
-- The time for which a key outlives the meaning of its state, and the longest life of a state;
-- both in milliseconds.
local expiry_slack, max_life = tonumber(ARGV[1]), tonumber(ARGV[2])
local now -- of the current call
local forced = false -- set while hits pass regardless of the limit

-- `tostring` keeps 14 digits only.
local function text(number)
  return string.format('%.0f', number)
end

local PATTERNS = { [2] = '^(%d+):(%d+)$', [3] = '^(%d+):(%d+):(%d+)$' }

-- The life of a state that has a meaning for `life` after `latest`, the latest timestamp in it.
-- The clock of this call may be up to a second behind.
local function life_after(latest, life)
  return life + math.min(math.max(latest - now, 0), 1000000)
end

-- The numbers in `value`, or nothing unless there are `count` of them.
local function numbers(value, count)
  local a, b, c = string.match(value, PATTERNS[count])
  a, b, c = tonumber(a), tonumber(b), tonumber(c or 0)
  if a and a <= MAX_NUMBER and b <= MAX_NUMBER and c <= MAX_NUMBER then
    return a, b, c
  end
end

-- The time to live in milliseconds of a key whose value has a meaning for `life`.
local function ttl_for(life)
  return math.min(math.ceil(life / 1000), max_life) + expiry_slack
end
