-- Makes calls, one after the other, whatever the algorithms of their charges: the twin of
-- `limit::step` and of the store in memory. tests/store holds them to the same
-- answers; change them together.
--
-- KEYS            the counter of each charge of each call, each followed by the
--                 key of its ban if it has a penalty
-- ARGV[1]         how long a state outlives its meaning, in milliseconds
-- ARGV[2]         how far clocks may be apart; this and every other time is in
--                 microseconds, if nothing else is said
-- ARGV[3]         the longest that anything is kept, in milliseconds
-- then per call   now, and how many charges follow
-- and per charge  the algorithm, one of those at the end
--                 flags: `a` hits are added; if the call is refused, `n` it is not
--                 made, or `i` only if it is refused itself; `e` enforced, `r` the
--                 call is refused anyway
--                 hits to add; below 0 to give back; 0 to look
--                 the penalty, 0 for none
--                 how many milliseconds to put the expiry off
--                 how many arguments follow, and these: those of the algorithm
--
-- Returns for each charge: whether the algorithm lets the hits pass, whether the
-- charge was made, until when the counter was banned before, and the numbers of
-- the state.
--
-- States are whole numbers below 2^53, with colons between. Whatever else is
-- found under a key counts for nothing, and is overwritten. Numbers are added,
-- subtracted, multiplied and compared where the result is exact, or is so large
-- that the comparison is right all the same. Whole numbers below 2^53 may also be
-- divided if the quotient is rounded to a whole number: the error of the division
-- is less than the distance to the next one.

local MOST = 9007199254740991 -- `Hits::MAX`
local grace, skew, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now -- of the call that is made
local more -- by how many milliseconds the expiry of the charge is put off

-- `tostring` keeps 14 digits.
local function text(number)
  return string.format('%.0f', number)
end

-- For how many milliseconds to keep what means something for so long.
local function lifetime(micros)
  return math.min(math.ceil(micros / 1000), longest) + grace + more
end

-- What has been read, what earlier calls will have written, and what this call
-- will: nothing is written before it is known what becomes of the call.
local read, written, own = {}, {}, {}

-- The text under `key`, as this call sees it.
local function kept(key)
  local change = own[key] or written[key]
  if change then
    return change.value
  end
  if not read[key] then
    local value = redis.pcall('GET', key)
    if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then
      -- It cannot be known what is kept: this fails as well, and with it the call.
      value = redis.call('GET', key)
    end
    read[key] = type(value) == 'string' and value or ''
  end
  return read[key]
end

local function write(key, value, ttl)
  own[key] = { value = value, ttl = ttl }
end

-- Three numbers, or nothing if they are not that.
local function three(value)
  local a, b, c = string.match(value, '^(%d+):(%d+):(%d+)$')
  a, b, c = tonumber(a), tonumber(b), tonumber(c)
  if a and a <= MOST and b <= MOST and c <= MOST then
    return a, b, c
  end
end

-- Each algorithm takes a key, hits, and its arguments. It returns whether the
-- hits pass, the numbers of the state before and after, and, if the state
-- changes, its text and for how long to keep it.

-- How many milliseconds `key` is kept, as this call sees it.
local function left(key)
  local change = own[key] or written[key]
  return change and change.ttl or redis.call('PTTL', key)
end

-- `ttl` is in milliseconds: until the window ends, and the grace.
local function fixed_window(key, hits, requests, count_denied, ttl)
  local before = 0
  if string.find(kept(key), '^%-?%d+$') then
    -- Another client may have taken it out of its range.
    before = math.min(math.max(tonumber(kept(key)), 0), MOST)
  end
  local after, passes = math.max(before + hits, 0), true
  if 0 <= hits then
    after = math.min(after, MOST)
    passes = after <= requests
    if not passes and count_denied == 0 then
      after = before
    end
  end
  if after == before then
    return passes, { before }, { after }
  end
  -- Rules with windows of different length may share a name.
  local rest = left(key)
  return passes, { before }, { after }, text(after), rest < ttl and ttl + more or rest
end

-- a * b in five digits of 18 bits, the lowest first. Both are below 2^53.
local DIGIT = 262144
local function product(a, b)
  local a0, b0 = a % DIGIT, b % DIGIT
  a, b = (a - a0) / DIGIT, (b - b0) / DIGIT
  local a1, b1 = a % DIGIT, b % DIGIT
  local a2, b2 = (a - a1) / DIGIT, (b - b1) / DIGIT
  local digits = { a0 * b0, a0 * b1 + a1 * b0, a0 * b2 + a1 * b1 + a2 * b0, a1 * b2 + a2 * b1, a2 * b2 }
  for i = 1, 4 do
    local digit = digits[i] % DIGIT
    digits[i + 1] = digits[i + 1] + (digits[i] - digit) / DIGIT
    digits[i] = digit
  end
  return digits
end

-- Whether a * b <= c * d.
local function at_most(a, b, c, d)
  local ours, theirs = product(a, b), product(c, d)
  for i = 5, 1, -1 do
    if ours[i] ~= theirs[i] then
      return ours[i] < theirs[i]
    end
  end
  return true
end

-- `start` and `length` are of the present window; `ahead` is how much later one
-- may begin that counts.
local function sliding_window(key, hits, requests, start, length, ahead)
  local began, before, current = three(kept(key))
  if began and began + length == start then
    began, before, current = start, current, 0
  elseif not began or began < start or ahead < began - start then
    began, before, current = start, 0, 0
  end
  local old, new, passes = before, current, true
  if 0 < hits then
    local room = requests - current - hits
    local left = math.max(length - math.max(now - began, 0), 0)
    passes = 0 <= room and at_most(before, left, room, length)
    if passes then
      new = current + hits
    end
  else
    -- The latest hits are given back first.
    new = math.max(current + hits, 0)
    old = math.max(before + math.min(current + hits, 0), 0)
  end
  if old == before and new == current then
    return passes, { began, before, current }, { began, before, current }
  end
  local rest = began + length - now
  if 0 < new then
    rest = rest + length
  elseif old == 0 then
    rest = 0
  end
  local value = text(began) .. ':' .. text(old) .. ':' .. text(new)
  return passes, { began, before, current }, { began, old, new }, value, lifetime(rest)
end

-- `tick` is the present one, `next` the first that begins now or later, and
-- `size` the length of one. `skew` is in ticks.
local function bucket(key, hits, tick, next, size, cost, drain, capacity, skew)
  local function pour(count)
    return math.min(count * cost, capacity + 1)
  end
  local was, level, price = three(kept(key))
  if not was or skew < was - tick then
    was, level, price = tick, 0, cost
  end
  if price ~= cost then
    -- The rule has changed: as many hits as were in the bucket are in it.
    level = pour(math.ceil(level / math.max(price, 1)))
  end
  level = math.min(level, capacity)
  if was <= tick then
    level = math.max(level - (tick - was) * drain, 0)
    was = tick
  end
  local since, after, passes = was, level, true
  if 0 < hits then
    passes = level + pour(hits) <= capacity
    if passes then
      after = level + pour(hits)
      if level < drain then
        -- What is poured in within a tick has not been there when it began.
        since = math.max(was, next)
      end
    end
  elseif hits < 0 then
    after = math.max(level - pour(-hits), 0)
  end
  if after == level then
    return passes, { was, level }, { was, level }
  end
  local ticks = since - tick
  if 0 < after then
    ticks = ticks + math.ceil(after / drain)
  end
  local value = text(since) .. ':' .. text(after) .. ':' .. text(cost)
  return passes, { was, level }, { since, after }, value, lifetime(ticks * size)
end

-- The leases in `value`, the one that ends first first, how many slots they hold,
-- and whether they are not just what `value` says. Those that have ended are left
-- out, and so are those that would last longer than `latest`: some clock was
-- wrong.
local function leases_in(value, latest)
  local leases, held, changed, sorted, length, last = {}, 0, false, true, 0, 0
  for ends, hits in string.gmatch(value, '(%d+):([1-9]%d*),') do
    length = length + #ends + #hits + 2
    ends, hits = tonumber(ends), tonumber(hits)
    if MOST < ends or MOST < held + hits then
      return {}, 0, false
    end
    if now < ends and ends <= latest then
      leases[#leases + 1], held = { ends, hits }, held + hits
      sorted, last = sorted and last <= ends, ends
    else
      changed = true
    end
  end
  if length ~= #value then
    return {}, 0, false
  end
  if not sorted then
    table.sort(leases, function(a, b) return a[1] < b[1] end)
  end
  return leases, held, changed or not sorted
end

-- When `excess` slots are free; 0 if there are not so many, or if none has to be.
local function freed(leases, excess)
  if excess <= 0 then
    return 0
  end
  for _, lease in ipairs(leases) do
    excess = excess - lease[2]
    if excess <= 0 then
      return lease[1]
    end
  end
  return 0
end

local function leases_text(leases)
  local texts = {}
  for i, lease in ipairs(leases) do
    texts[i] = text(lease[1]) .. ':' .. text(lease[2]) .. ','
  end
  return table.concat(texts)
end

local function leases(key, hits, requests, lease)
  local finish = now + lease
  local leases, held, changed = leases_in(kept(key), finish + skew)
  local last, free = #leases > 0 and leases[#leases][1] or 0, 0
  local before = { held, 0, last }
  if 0 < hits then
    if requests < held + hits then
      before[2] = freed(leases, held + hits - requests)
      return false, before, before
    end
    local at = #leases
    while at > 0 and finish < leases[at][1] do
      at = at - 1
    end
    if at > 0 and leases[at][1] == finish then
      leases[at][2] = leases[at][2] + hits
    else
      table.insert(leases, at + 1, { finish, hits })
    end
    held, changed = held + hits, true
    free = freed(leases, held + hits - requests)
  elseif hits < 0 then
    local rest = {}
    for _, it in ipairs(leases) do
      local given = math.min(-hits, it[2])
      hits, held, changed = hits + given, held - given, changed or 0 < given
      if given < it[2] then
        rest[#rest + 1] = { it[1], it[2] - given }
      end
    end
    leases = rest
  else
    changed = false
  end
  last = #leases > 0 and leases[#leases][1] or 0
  if not changed then
    return true, before, before
  end
  return true, before, { held, free, last }, leases_text(leases), lifetime(math.max(last - now, 0))
end

-- Until when everything is refused; in the past if it is not, or if what is kept
-- makes no sense.
local function banned_until(charge)
  local banned = charge.ban and tonumber(string.match(kept(charge.ban), '^%d+$')) or 0
  return banned <= now + charge.penalty + skew and banned or now
end

-- Works out one charge, and makes it if `make`. It is refused in any case if
-- `refuse`.
local function attempt(charge, make, refuse)
  more = charge.more
  local banned = banned_until(charge)
  local passes, before, after, value, ttl = charge.algorithm(charge.key, charge.hits, unpack(charge.arguments))
  -- What is given back is never refused, even if it is nothing.
  passes = (passes or not charge.adds) and not refuse
  local shut = charge.adds and now < banned
  local made = make and not shut
  if made and value then
    write(charge.key, value, ttl)
  end
  if charge.ban and not passes and 0 < charge.hits and banned <= now then
    write(charge.ban, text(now + charge.penalty), lifetime(charge.penalty))
  end
  return {
    passes = passes, over = not passes or shut, made = made, banned = banned, before = before, after = after,
  }
end

local ALGORITHMS = { fixed_window = fixed_window, sliding_window = sliding_window, bucket = bucket, leases = leases }

-- The place in KEYS and ARGV of what has not been understood yet.
local key, argument = 1, 4

local function next_charge()
  local flags = ARGV[argument + 1]
  local charge = {
    algorithm = ALGORITHMS[ARGV[argument]],
    adds = string.find(flags, 'a', 1, true),
    all_or_nothing = string.find(flags, 'n', 1, true),
    if_refused = string.find(flags, 'i', 1, true),
    enforced = string.find(flags, 'e', 1, true),
    refused = string.find(flags, 'r', 1, true),
    hits = tonumber(ARGV[argument + 2]),
    penalty = tonumber(ARGV[argument + 3]),
    more = tonumber(ARGV[argument + 4]),
    key = KEYS[key],
    arguments = {},
  }
  key = key + 1
  if 0 < charge.penalty then
    charge.ban = KEYS[key]
    key = key + 1
  end
  for i = 1, tonumber(ARGV[argument + 5]) do
    charge.arguments[i] = tonumber(ARGV[argument + 5 + i])
  end
  argument = argument + 6 + #charge.arguments
  charge.counts_denied = charge.algorithm == fixed_window and charge.arguments[2] == 1
  return charge
end

-- Whether a charge is made although its call is refused.
local function made_if_refused(charge, passes)
  if charge.all_or_nothing then
    return false
  elseif charge.if_refused then
    return not passes and charge.counts_denied
  end
  return passes or charge.counts_denied
end

-- Makes the charges of one call.
local function make(charges)
  local attempts, together, refused = {}, false, false
  for i, charge in ipairs(charges) do
    attempts[i] = attempt(charge, true, false)
    together = together or charge.all_or_nothing or charge.if_refused
    refused = refused or charge.refused or charge.enforced and attempts[i].over
  end
  if together and refused then
    -- Once more, without the charges that are not made now.
    own = {}
    for i, charge in ipairs(charges) do
      local trial = attempts[i]
      local again = made_if_refused(charge, trial.passes)
      local final = attempt(charge, again, not trial.passes)
      if trial.over then
        trial.made = trial.made and again
      else
        attempts[i] = final
      end
    end
  end
  return attempts
end

local answers = {}
while ARGV[argument] do
  now, own = tonumber(ARGV[argument]), {}
  local charges, count = {}, tonumber(ARGV[argument + 1])
  argument = argument + 2
  for i = 1, count do
    charges[i] = next_charge()
  end
  for _, it in ipairs(make(charges)) do
    answers[#answers + 1] = { it.passes and 1 or 0, it.made and 1 or 0, it.banned, unpack(it.made and it.after or it.before) }
  end
  for name, it in pairs(own) do
    written[name] = it
  end
end

for name, it in pairs(written) do
  if it.value == '' then
    redis.call('DEL', name)
  else
    redis.call('SET', name, it.value, 'PX', text(it.ttl))
  end
end
return answers
