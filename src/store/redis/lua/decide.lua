-- Makes calls, one after the other, whatever the algorithms of their charges: the twin of
-- `store::script`. tests/store holds them to the same answers; change them together.
--
-- KEYS            the counter of each charge of each call
-- ARGV[1], [2]    see above
-- ARGV[3]         how long hits are held
-- then per call   now, how many charges follow, and a number by which the call holds what
--                 depends on charges elsewhere, 0 if nothing does
-- and per charge  the jitter of the expiry, in milliseconds
--                 the algorithm, by its name in src/limit
--                 flags: 1 hits are added; if the call is refused, 2 it is not made,
--                 or 4 only if it is refused itself; 8 enforced, 16 the call is
--                 refused anyway; 32 hits that are refused count; 64 rules with
--                 windows of different length may share the counter; and 128 times the
--                 number of its quota, 0 if it is of none
--                 hits to add; below 0 to give back; 0 to look
--                 the penalty, 0 for none
--                 how many arguments follow, and these: those of the algorithm
--
-- A call that holds hits counts only what it would if it were refused, and holds the rest.
--
-- Returns for each charge: whether the algorithm lets the hits pass, 2 if that depends on
-- what others hold, and nothing was made; whether the charge was made; until when the
-- counter was banned before; the numbers of the state; and if the call holds hits, a sum of
-- 1 if the charge is made although the call is refused elsewhere, 2 if its hits wait to be
-- counted if the call is granted, 4 if they do if it is refused, 8 if the algorithm lets
-- them pass if it is refused; and the numbers of the state if it is refused.

-- How many calls may hold hits of one counter; more wait.
local MOST_HOLDS = 1000
local hold_for = tonumber(ARGV[3])
local id -- of the call that is made, if it holds hits

-- How many hits other calls hold, and how many calls hold some.
local function held(record)
  local sum, count = 0, 0
  for _, hold in ipairs(record.holds) do
    if clock() < hold.ends then
      count = count + 1
      if hold.id ~= id then
        sum = sum + hold.hits
      end
    end
  end
  return math.min(sum, MOST), count
end

-- What is held takes room as well. Returns whether the hits pass, nothing if that is not
-- sure, and the numbers to tell.
local function weigh_holds(charge, record, passes, before, after)
  if #record.holds == 0 then
    return passes, before, after
  end
  local others = held(record)
  if others == 0 or charge.kind.adds and not passes then
    -- What is refused for sure is told of without it.
    return passes, before, after
  end
  -- As if what is held had been counted.
  forced = true
  local _, _, _, counted = charge.algorithm(record.state, others, unpack(charge.arguments))
  forced = false
  local state, fits = counted or record.state, nil
  fits, before, after = charge.algorithm(state, charge.hits, unpack(charge.arguments))
  if passes and not fits then
    return nil, before, after
  end
  return passes, before, after
end

-- Applies the algorithm and the holds of other calls to a charge. Returns whether the hits pass,
-- the numbers to return for before and after, the new state and its lifetime.
local function weigh_now(charge, record)
  local passes, before, after, state, life = charge.algorithm(record.state, charge.hits, unpack(charge.arguments))
  passes, before, after = weigh_holds(charge, record, passes, before, after)
  return passes, before, after, state, life
end

-- The same, with the result kept until the counter changes: equal charges of one call that
-- change nothing, and charges of a call that may be refused, are weighed once.
local function weigh(charge, record)
  local weighed = record.weighed and record.weighed[charge]
  if weighed then
    return unpack(weighed, 1, 5)
  end
  local passes, before, after, state, life = weigh_now(charge, record)
  if charge.again and (charge.kind.depends or not state) then
    record.weighed = record.weighed or {}
    record.weighed[charge] = { passes, before, after, state, life }
  end
  return passes, before, after, state, life
end

-- Works out one charge, and makes it if `make`. It is refused in any case if
-- `refuse`.
local function attempt(charge, make, refuse)
  local record = kept(charge.key)
  local banned = 0
  if 0 < charge.penalty and 0 < record.banned then
    banned = math.min(record.banned, now) + charge.penalty
  end
  local passes, before, after, state, life = weigh(charge, record)
  if passes and 0 < id and charge.kind.depends then
    local _, count = held(record)
    if MOST_HOLDS <= count then
      passes = nil
    end
  end
  if not charge.kind.adds then
    -- What is given back is never refused, even if it is nothing.
    passes = true
  end
  if refuse then
    passes = false
  end
  local shut = charge.kind.adds and now < banned
  if shut and passes == nil then
    passes = true
  end
  local unsure = passes == nil
  local made = make and not shut and (passes or not unsure and charge.kind.counts_denied)
  local since, counts = record.banned, made and state and true or false
  local change = counts
  if not counts then
    state, life = record.state, nil
  end
  if 0 < charge.penalty and passes == false and 0 < charge.hits and banned <= now then
    since, change = now, true
  end
  if change then
    write(charge, state, since, record.holds, life)
  end
  return {
    passes = passes, unsure = unsure, over = passes == false or shut, made = made, counts = counts,
    banned = banned, before = before, after = after,
  }
end

-- The place in KEYS and ARGV of what has not been understood yet.
local key, argument = 1, 4

-- Decoded flags, by their number.
local kinds = {}

local function kind_of(flags)
  local kind = kinds[flags]
  if not kind then
    local function has(flag)
      return bit.band(flags, flag) ~= 0
    end
    local quota = math.floor(flags / 128)
    kind = {
      adds = has(1), all_or_nothing = has(2), if_refused = has(4), depends = has(6), enforced = has(8),
      refused = has(16), counts_denied = has(32), shares = has(64), quota = 0 < quota and quota,
    }
    kinds[flags] = kind
  end
  return kind
end

local function parse_charge(last)
  local charge = {
    algorithm = algorithm(ARGV[argument + 1]),
    kind = kind_of(ARGV[argument + 2]),
    hits = tonumber(ARGV[argument + 3]),
    penalty = tonumber(ARGV[argument + 4]),
    more = tonumber(ARGV[argument]),
    key = KEYS[key],
    arguments = {},
  }
  for i = argument + 6, last do
    charge.arguments[i - argument - 5] = tonumber(ARGV[i])
  end
  return charge
end

-- Reads the next charge of a call. Equal charges share one table, kept in `known`.
local function next_charge(known)
  local last = argument + 5 + tonumber(ARGV[argument + 5])
  local name = known and KEYS[key] .. ' ' .. table.concat(ARGV, ' ', argument + 1, last)
  local charge = known and known[name]
  if charge then
    charge.again = true
  else
    charge = parse_charge(last)
    if known then
      charge.again = charge.kind.depends
      known[name] = charge
    end
  end
  key, argument = key + 1, last + 1
  return charge
end

-- What the charges of a call come to of which some depend on the others, and what they would
-- come to if the call were refused. `attempts` is what comes of each alone, one of them
-- perhaps `unsure`.
local function make_together(charges, attempts, unsure)
  -- Whether a charge is made although its call is refused.
  local function made_if_refused(charge, passes)
    if charge.kind.all_or_nothing then
      return false
    elseif charge.kind.if_refused then
      return not passes and charge.kind.counts_denied
    end
    return passes or charge.kind.counts_denied
  end

  -- Works out one charge of a call that is refused, of which `trial` was tried.
  local function again(charge, trial)
    local refused = trial.passes == false
    local make = made_if_refused(charge, not refused) and not trial.unsure
    local last = attempt(charge, make, refused)
    if not trial.over and not trial.unsure then
      return last
    end
    local final = {
      passes = trial.passes, unsure = trial.unsure, over = trial.over, made = trial.made, counts = trial.counts,
      banned = trial.banned, before = trial.before, after = trial.after,
    }
    if trial.over then
      final.made, final.counts = trial.made and make, last.counts
    elseif charge.kind.depends then
      final.passes, final.unsure, final.made = true, false, false
    end
    return final
  end

  -- Counters of which it depends on other places what the call counts there are left as they
  -- are, but for a hold of all that is added. What is given back makes room only then.
  local function hold_all(charges, attempts, finals, tried)
    local sums, of = {}, {}
    for i, charge in ipairs(charges) do
      if charge.kind.depends and attempts[i].counts and not finals[i].made and not of[charge.key] then
        sums[charge.key], of[charge.key] = 0, charge
      end
    end
    for i, charge in ipairs(charges) do
      local key = charge.key
      if of[key] then
        attempts[i].waits, finals[i].waits = attempts[i].counts, finals[i].counts
        if attempts[i].counts then
          sums[key] = math.min(sums[key] + math.max(charge.hits, 0), MOST)
        end
      end
    end
    for key, charge in pairs(of) do
      -- A ban that both ends agree on.
      local banned = own[key] and tried[key] and own[key].banned == tried[key].banned and own[key].banned
      own[key] = nil
      local record, holds = kept(key), {}
      for i, hold in ipairs(record.holds) do
        holds[i] = hold
      end
      holds[#holds + 1] = { id = id, hits = sums[key], ends = clock() + hold_for }
      write(charge, record.state, banned or record.banned, holds, nil)
    end
  end

  -- Whether a call is refused of whose charges this was tried: one is over that refuses it by
  -- itself, or one of each quota is.
  local function refuses(charges, attempts)
    local quotas, refused = {}, false
    for i, charge in ipairs(charges) do
      refused = refused or charge.kind.refused or charge.kind.enforced and attempts[i].over
      if charge.kind.quota then
        quotas[charge.kind.quota] = quotas[charge.kind.quota] or attempts[i].over or false
      end
    end
    local exhausted = next(quotas) ~= nil
    for _, over in pairs(quotas) do
      exhausted = exhausted and over
    end
    return refused or exhausted
  end

  local refused = refuses(charges, attempts)
  if not refused and not unsure and id == 0 then
    return attempts, attempts
  end
  local tried = own
  own = {}
  if unsure and not refused then
    -- Once more, without those that depend on the others.
    for i, charge in ipairs(charges) do
      if charge.kind.depends then
        attempts[i].unsure, attempts[i].made = true, false
      else
        attempts[i] = attempt(charge, true, false)
      end
    end
    return attempts, attempts
  end
  -- Once more, without the charges that are not made now.
  local finals = {}
  for i, charge in ipairs(charges) do
    finals[i] = again(charge, attempts[i])
  end
  if refused then
    return finals, finals
  end
  hold_all(charges, attempts, finals, tried)
  return attempts, finals
end

-- Makes the charges of one call. Returns the same.
local function make(charges)
  local attempts, together, unsure = {}, false, false
  for i, charge in ipairs(charges) do
    attempts[i] = attempt(charge, true, false)
    together = together or charge.kind.depends
    unsure = unsure or attempts[i].unsure
  end
  if together then
    return make_together(charges, attempts, unsure)
  end
  return attempts, attempts
end

local answers = {}
while ARGV[argument] do
  now, id = tonumber(ARGV[argument]), tonumber(ARGV[argument + 2])
  local charges, count = {}, tonumber(ARGV[argument + 1])
  local known = 1 < count and {} or nil
  argument = argument + 3
  for i = 1, count do
    charges[i] = next_charge(known)
  end
  local attempts, finals = make(charges)
  for i, it in ipairs(attempts) do
    local verdict = it.unsure and 2 or it.passes and 1 or 0
    local answer = { verdict, it.made and 1 or 0, it.banned, unpack(it.made and it.after or it.before) }
    if 0 < id then
      local final = finals[i]
      answer[#answer + 1] = (final.made and 1 or 0) + (it.waits and 2 or 0) + (final.waits and 4 or 0) + (final.passes and not final.unsure and 8 or 0)
      for _, number in ipairs(final.made and final.after or final.before) do
        answer[#answer + 1] = number
      end
    end
    answers[#answers + 1] = answer
  end
  done()
end

write_all()
return answers
