-- The format of counters, and helpers for the algorithms, whose functions (src/limit) follow.
--
-- A counter is kept as the text of its state, then `!` and since when everything is
-- refused, if it is, then `&id:hits:until` for each call that holds hits. Each part may
-- be absent. A state that is not text begins with `#` and, in four bytes, how many follow
-- that are its own, these four among them. Numbers are whole and below 2^53; every time is
-- in microseconds, if nothing else is said. Whatever else is found under a key counts for
-- nothing, and is overwritten.
--
-- Numbers are added, subtracted, multiplied and compared where the result is exact, or
-- is so large that the comparison is right all the same. Whole numbers below 2^53 may
-- also be divided if the quotient is rounded to a whole number: the error of the
-- division is less than the distance to the next one.

local MOST = 9007199254740991 -- `Hits::MAX`
-- How long a state outlives its meaning, and the longest that anything is kept; both in
-- milliseconds.
local grace, longest = tonumber(ARGV[1]), tonumber(ARGV[2])
local now -- of the call that is made
local forced = false -- whether hits pass whatever the limit says

-- `tostring` keeps 14 digits.
local function text(number)
  return string.format('%.0f', number)
end

local PATTERNS = { [2] = '^(%d+):(%d+)$', [3] = '^(%d+):(%d+):(%d+)$' }

-- How long a state is of use that means something for `life` after `latest`, the latest moment
-- that it knows: this clock may have stepped back by a second.
local function life_after(latest, life)
  return life + math.min(math.max(latest - now, 0), 1000000)
end

-- The numbers in `value`, or nothing if it is not `count` of them.
local function numbers(value, count)
  local a, b, c = string.match(value, PATTERNS[count])
  a, b, c = tonumber(a), tonumber(b), tonumber(c or 0)
  if a and a <= MOST and b <= MOST and c <= MOST then
    return a, b, c
  end
end

-- For how many milliseconds to keep what means something for so long.
local function lifetime(micros)
  return math.min(math.ceil(micros / 1000), longest) + grace
end
