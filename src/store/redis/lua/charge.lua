-- Makes calls, one after the other, whatever the algorithms of their charges: the twin of
-- `store::script`. tests/store holds them to the same answers; change them together.
--
-- KEYS            the counter of each charge of each call
-- ARGV[1], [2]    see above
-- ARGV[3]         how long hits are held
-- then per call   now, how many charges follow, and a number by which the call holds what
--                 depends on charges elsewhere, 0 if nothing does
-- and per charge  the algorithm, by its name in src/limit
--                 flags: 1 hits are added; if the call is refused, 2 it is not made,
--                 or 4 only if it is refused itself; 8 enforced, 16 the call is
--                 refused anyway; 32 hits that are refused count; 64 rules with
--                 windows of different length may share the counter; and 128 times the
--                 number of its quota, 0 if it is of none
--                 hits to add; below 0 to give back; 0 to look
--                 the penalty, 0 for none
--                 how many milliseconds to put the expiry off
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

-- Whether what the call comes to elsewhere matters to a charge of it.
local function depends(charge)
  return charge.all_or_nothing or charge.if_refused
end

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
  local others = held(record)
  if others == 0 or charge.adds and not passes then
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

-- Works out one charge, and makes it if `make`. It is refused in any case if
-- `refuse`.
local function attempt(charge, make, refuse)
  local record = kept(charge.key)
  local banned = 0
  if 0 < charge.penalty and 0 < record.banned then
    banned = math.min(record.banned, now) + charge.penalty
  end
  local passes, before, after, state, life = charge.algorithm(record.state, charge.hits, unpack(charge.arguments))
  passes, before, after = weigh_holds(charge, record, passes, before, after)
  if passes and 0 < id and depends(charge) then
    local _, count = held(record)
    if MOST_HOLDS <= count then
      passes = nil
    end
  end
  if not charge.adds then
    -- What is given back is never refused, even if it is nothing.
    passes = true
  end
  if refuse then
    passes = false
  end
  local shut = charge.adds and now < banned
  if shut and passes == nil then
    passes = true
  end
  local unsure = passes == nil
  local made = make and not shut and (passes or not unsure and charge.counts_denied)
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

local function next_charge()
  local flags = tonumber(ARGV[argument + 1])
  local function has(flag)
    return bit.band(flags, flag) ~= 0
  end
  local quota = math.floor(flags / 128)
  local charge = {
    algorithm = algorithm(ARGV[argument]),
    adds = has(1),
    all_or_nothing = has(2),
    if_refused = has(4),
    enforced = has(8),
    quota = 0 < quota and quota,
    refused = has(16),
    counts_denied = has(32),
    shares = has(64),
    hits = tonumber(ARGV[argument + 2]),
    penalty = tonumber(ARGV[argument + 3]),
    more = tonumber(ARGV[argument + 4]),
    key = KEYS[key],
    arguments = {},
  }
  key = key + 1
  for i = 1, tonumber(ARGV[argument + 5]) do
    charge.arguments[i] = tonumber(ARGV[argument + 5 + i])
  end
  argument = argument + 6 + #charge.arguments
  return charge
end

-- What the charges of a call come to of which some depend on the others, and what they would
-- come to if the call were refused. `attempts` is what comes of each alone, one of them
-- perhaps `unsure`.
local function make_together(charges, attempts, unsure)
  -- Whether a charge is made although its call is refused.
  local function made_if_refused(charge, passes)
    if charge.all_or_nothing then
      return false
    elseif charge.if_refused then
      return not passes and charge.counts_denied
    end
    return passes or charge.counts_denied
  end

  -- Works out one charge of a call that is refused, of which `trial` was tried.
  local function again(charge, trial)
    local refused = trial.passes == false
    local make = made_if_refused(charge, not refused) and not trial.unsure
    local last = attempt(charge, make, refused)
    local final = {}
    for name, it in pairs(trial) do
      final[name] = it
    end
    if trial.over then
      final.made, final.counts = trial.made and make, last.counts
    elseif not trial.unsure then
      return last
    elseif depends(charge) then
      final.passes, final.unsure, final.made = true, false, false
    end
    return final
  end

  -- Counters of which it depends on other places what the call counts there are left as they
  -- are, but for a hold of all that is added. What is given back makes room only then.
  local function hold_all(charges, attempts, finals, tried)
    local sums, of = {}, {}
    for i, charge in ipairs(charges) do
      if depends(charge) and attempts[i].counts and not finals[i].made and not of[charge.key] then
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
      refused = refused or charge.refused or charge.enforced and attempts[i].over
      if charge.quota then
        quotas[charge.quota] = quotas[charge.quota] or attempts[i].over or false
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
      if depends(charge) then
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
    together = together or depends(charge)
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
  argument = argument + 3
  for i = 1, count do
    charges[i] = next_charge()
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
