-- Makes calls, one after the other, whatever the algorithms of their charges: the twin of
-- `store::script`. tests/store holds them to the same answers; change them together.
--
-- KEYS            the counter of each charge of each call
-- ARGV[1], [2]    see above
-- ARGV[3]         how long hits are held
-- then per call   now, how many charges follow, and a number by which the call holds what
--                 depends on charges elsewhere, 0 if nothing does
-- and per charge  the algorithm, one of those at the end
--                 flags: `a` hits are added; if the call is refused, `n` it is not
--                 made, or `i` only if it is refused itself; `e` enforced, `r` the
--                 call is refused anyway; `c` hits that are refused count; `w` rules
--                 with windows of different length may share the counter
--                 hits to add; below 0 to give back; 0 to look
--                 the penalty, 0 for none
--                 how many milliseconds to put the expiry off
--                 how many arguments follow, and these: those of the algorithm
--
-- Returns for each charge: whether the algorithm lets the hits pass, 2 if that depends on
-- what others hold, and nothing was made; whether the charge was made; until when the
-- counter was banned before; the numbers of the state; and if the call holds hits, those
-- of the state before.

local hold_for = tonumber(ARGV[3])
local id -- of the call that is made, if it holds hits

-- How many hits others hold, and how many this call does.
local function held(record)
  local others, mine = 0, 0
  for _, hold in ipairs(record.holds) do
    if now < hold.ends then
      if hold.id == id then
        mine = mine + hold.hits
      else
        others = others + hold.hits
      end
    end
  end
  return others, mine
end

local function with_hold(holds, hits)
  local all, found = {}, false
  for i, hold in ipairs(holds) do
    all[i] = hold
    if hold.id == id then
      found = true
      all[i] = { id = id, hits = math.min(hold.hits + hits, MOST), ends = hold.ends }
    end
  end
  if not found then
    all[#all + 1] = { id = id, hits = hits, ends = now + hold_for }
  end
  return all
end

-- The state as if `hits` that are held had been counted.
local function with_held(charge, state, hits)
  forced = true
  local _, _, _, counted = charge.algorithm(state, hits, unpack(charge.arguments))
  forced = false
  return counted or state
end

-- What is held takes room as well. Returns whether the hits pass, nothing if that is not
-- sure, and the numbers to tell.
local function weigh_holds(charge, record, passes, before, after)
  local others, mine = held(record)
  if others + mine == 0 then
    return passes, before, after
  end
  local function with(held)
    return charge.algorithm(with_held(charge, record.state, math.min(held, MOST)), charge.hits, unpack(charge.arguments))
  end
  local fits
  fits, before, after = with(others + mine)
  if fits or not passes then
    return passes, before, after
  elseif 0 < mine and not with(mine) then
    return false, before, after
  end
  return nil, before, after
end

-- Works out one charge, and makes it if `make`. It is refused in any case if
-- `refuse`.
local function attempt(charge, make, refuse)
  local record = kept(charge.key)
  local banned = 0
  if 0 < charge.penalty and 0 < record.banned then
    banned = math.min(record.banned, now) + charge.penalty
  end
  local alone, before, after, state, life = charge.algorithm(record.state, charge.hits, unpack(charge.arguments))
  local passes
  passes, before, after = weigh_holds(charge, record, alone, before, after)
  if not charge.adds then
    -- What is given back is never refused, even if it is nothing.
    passes = true
  end
  if alone and passes == false and not charge.counts_denied then
    state = nil
  end
  if refuse then
    passes = false
  end
  local shut = charge.adds and now < banned
  if shut and passes == nil then
    passes = true
  end
  local unsure = passes == nil
  local made = make and not shut and not unsure
  local since, holds, change = record.banned, record.holds, false
  if made and state then
    if 0 < id and (charge.all_or_nothing or charge.if_refused) and 0 < charge.hits and (passes or charge.all_or_nothing) then
      state, life, holds = record.state, nil, with_hold(holds, charge.hits)
    end
    change = true
  else
    state, life = record.state, nil
  end
  if 0 < charge.penalty and passes == false and 0 < charge.hits and banned <= now then
    since, change = now, true
  end
  if change then
    write(charge, state, since, holds, life)
  end
  return {
    passes = passes, unsure = unsure, over = passes == false or shut, made = made, banned = banned,
    before = before, after = after,
  }
end

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
    counts_denied = string.find(flags, 'c', 1, true),
    shares = string.find(flags, 'w', 1, true),
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
  if trial.over then
    trial.made = trial.made and make
  elseif not trial.unsure then
    return last
  elseif charge.all_or_nothing or charge.if_refused then
    trial.passes, trial.unsure, trial.made = true, false, false
  end
  return trial
end

-- Makes the charges of one call.
local function make(charges)
  local attempts, together, refused, unsure = {}, false, false, false
  for i, charge in ipairs(charges) do
    attempts[i] = attempt(charge, true, false)
    together = together or charge.all_or_nothing or charge.if_refused
    refused = refused or charge.refused or charge.enforced and attempts[i].over
    unsure = unsure or attempts[i].unsure
  end
  if together and refused then
    -- Once more, without the charges that are not made now.
    own = {}
    for i, charge in ipairs(charges) do
      attempts[i] = again(charge, attempts[i])
    end
  elseif together and unsure then
    -- Once more, without those that depend on the others.
    own = {}
    for i, charge in ipairs(charges) do
      if charge.all_or_nothing or charge.if_refused then
        attempts[i].unsure, attempts[i].made = true, false
      else
        attempts[i] = attempt(charge, true, false)
      end
    end
  end
  return attempts
end

local answers = {}
while ARGV[argument] do
  now, id = tonumber(ARGV[argument]), tonumber(ARGV[argument + 2])
  local charges, count = {}, tonumber(ARGV[argument + 1])
  argument = argument + 3
  for i = 1, count do
    charges[i] = next_charge()
  end
  for _, it in ipairs(make(charges)) do
    local verdict = it.unsure and 2 or it.passes and 1 or 0
    local answer = { verdict, it.made and 1 or 0, it.banned, unpack(it.made and it.after or it.before) }
    if 0 < id then
      for _, number in ipairs(it.before) do
        answer[#answer + 1] = number
      end
    end
    answers[#answers + 1] = answer
  end
  done()
end

write_all()
return answers
