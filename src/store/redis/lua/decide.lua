-- Makes the charges of calls, in order, by any algorithm: the twin of `store::script`.
-- Property tests compare the two; change them together.
--
-- KEYS            the counter of each charge of each call
-- ARGV[1], [2]    see numbers.lua
-- ARGV[3]         the time after which holds expire
-- then per call   the time; the number of its charges; the id under which the call holds hits
--                 of charges that depend on charges elsewhere, 0 if it holds none
-- and per charge  the jitter of the expiry, in milliseconds
--                 the name of the algorithm in src/limit
--                 the sum of its flags: 1 not a refund; 2 not made if the call is refused;
--                 4 made in a refused call only if it is refused itself; 8 enforced: refuses
--                 the call; 16 the call is refused already; 32 refused hits count; 64 rules
--                 with windows of different lengths share the key; and 128 times the number
--                 of its quota, 0 for none
--                 the hits to add; below 0 for a refund, 0 to read
--                 the penalty, 0 for none
--                 the number of the algorithm's arguments, and these arguments
--
-- A call with an id counts only the hits that it would count if it were refused elsewhere, and
-- holds the others.
--
-- Returns for each charge: 1 if the hits pass, 0 if not, 2 if that depends on hits that other
-- calls hold, and nothing was made; 1 if the charge was made, else 0; the end of the ban that
-- was active before; and the numbers of the state. For a call with an id these follow: the sum
-- of 1 if the charge is made even if the call is refused elsewhere, 2 if its hits are held to be
-- counted if the call is granted, 4 if they are held to be counted if it is refused, 8 if they
-- pass if it is refused; and the numbers of the state if it is refused.

-- The most calls that hold hits of one counter; charges of others stay undecided.
local MAX_HOLDS = 1000
local hold_timeout = tonumber(ARGV[3])
local id -- of the current call; 0 if it holds no hits

-- The sum of the hits that other calls hold, and the number of calls that hold hits.
local function active_holds(record)
  local sum, count = 0, 0
  for _, hold in ipairs(record.holds) do
    if clock() < hold.expires_at then
      count = count + 1
      if hold.id ~= id then
        sum = sum + hold.hits
      end
    end
  end
  return math.min(sum, MAX_NUMBER), count
end

-- Takes the holds of other calls into account, which take room as counted hits do. Returns
-- if the hits pass, nil if that is undecided, and the numbers to return.
local function check_holds(charge, record, passes, before, after)
  if #record.holds == 0 then
    return passes, before, after
  end
  local held = active_holds(record)
  if held == 0 or charge.kind.adds and not passes then
    -- A certain refusal is reported without the holds.
    return passes, before, after
  end
  -- The charge after the held hits have been counted.
  forced = true
  local _, _, _, counted = charge.algorithm(record.state, held, unpack(charge.arguments))
  forced = false
  local state, fits = counted or record.state, nil
  fits, before, after = charge.algorithm(state, charge.hits, unpack(charge.arguments))
  if passes and not fits then
    return nil, before, after
  end
  return passes, before, after
end

-- Applies the algorithm and the holds of other calls to a charge. Returns if the hits pass, the
-- numbers to return for the state before and after, the new state, and its life.
local function run_step(charge, record)
  local passes, before, after, state, life = charge.algorithm(record.state, charge.hits, unpack(charge.arguments))
  passes, before, after = check_holds(charge, record, passes, before, after)
  return passes, before, after, state, life
end

-- The same, with the result cached until the counter changes: equal charges of a call that
-- change nothing, and charges that are evaluated again, run the algorithm once.
local function step(charge, record)
  local cached = record.steps and record.steps[charge]
  if cached then
    return unpack(cached, 1, 5)
  end
  local passes, before, after, state, life = run_step(charge, record)
  if charge.repeats and (charge.kind.depends or not state) then
    record.steps = record.steps or {}
    record.steps[charge] = { passes, before, after, state, life }
  end
  return passes, before, after, state, life
end

-- Evaluates a charge. Makes it if `apply` is set and its verdict allows that; refuses it in any
-- case if `refuse` is set.
local function evaluate(charge, apply, refuse)
  local record = read_record(charge.key)
  local banned_until = 0
  if 0 < charge.penalty and 0 < record.banned_since then
    banned_until = math.min(record.banned_since, now) + charge.penalty
  end
  local passes, before, after, state, life = step(charge, record)
  if passes and 0 < id and charge.kind.depends then
    local _, count = active_holds(record)
    if MAX_HOLDS <= count then
      passes = nil
    end
  end
  if not charge.kind.adds then
    -- A refund always passes, even one of no hits.
    passes = true
  end
  if refuse then
    passes = false
  end
  local banned = charge.kind.adds and now < banned_until
  if banned and passes == nil then
    -- The ban decides.
    passes = true
  end
  local undecided = passes == nil
  local applied = apply and not banned and (passes or not undecided and charge.kind.counts_denied)
  local banned_since, changes_state = record.banned_since, applied and state and true or false
  local changes = changes_state
  if not changes_state then
    state, life = record.state, nil
  end
  if 0 < charge.penalty and passes == false and 0 < charge.hits and banned_until <= now then
    banned_since, changes = now, true
  end
  if changes then
    write_record(charge, state, banned_since, record.holds, life)
  end
  return {
    passes = passes, undecided = undecided, over = passes == false or banned, applied = applied,
    changes_state = changes_state, banned_until = banned_until, before = before, after = after,
  }
end

-- The positions in KEYS and ARGV of the next charge.
local key, argument = 1, 4

-- Decoded flags, by their sum.
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
    jitter = tonumber(ARGV[argument]),
    algorithm = algorithm(ARGV[argument + 1]),
    kind = kind_of(ARGV[argument + 2]),
    hits = tonumber(ARGV[argument + 3]),
    penalty = tonumber(ARGV[argument + 4]),
    key = KEYS[key],
    arguments = {},
  }
  for i = argument + 6, last do
    charge.arguments[i - argument - 5] = tonumber(ARGV[i])
  end
  return charge
end

-- Parses the next charge of a call. Equal charges share one table, kept in `parsed`. It is marked
-- as one that `repeats`, as are charges that may be evaluated again.
local function next_charge(parsed)
  local last = argument + 5 + tonumber(ARGV[argument + 5])
  local name = parsed and KEYS[key] .. ' ' .. table.concat(ARGV, ' ', argument + 1, last)
  local charge = parsed and parsed[name]
  if charge then
    charge.repeats = true
  else
    charge = parse_charge(last)
    if parsed then
      charge.repeats = charge.kind.depends
      parsed[name] = charge
    end
  end
  key, argument = key + 1, last + 1
  return charge
end

-- Evaluates a call with charges that depend on each other, after a first evaluation of each, of
-- which one may be `undecided`. Returns the evaluations if the call is granted, and if it is
-- refused elsewhere.
local function evaluate_dependent(charges, evaluations, undecided)
  -- Returns true if a charge is made although its call is refused.
  local function is_made_if_refused(charge, passes)
    if charge.kind.all_or_nothing then
      return false
    elseif charge.kind.if_refused then
      return not passes and charge.kind.counts_denied
    end
    return passes or charge.kind.counts_denied
  end

  -- Evaluates a charge of a refused call, after its `first` evaluation.
  local function evaluate_refused(charge, first)
    local refuse = first.passes == false
    local apply = is_made_if_refused(charge, not refuse) and not first.undecided
    local last = evaluate(charge, apply, refuse)
    if not first.over and not first.undecided then
      return last
    end
    local final = {
      passes = first.passes, undecided = first.undecided, over = first.over, applied = first.applied,
      changes_state = first.changes_state, banned_until = first.banned_until, before = first.before,
      after = first.after,
    }
    if first.over then
      final.applied, final.changes_state = first.applied and apply, last.changes_state
    elseif charge.kind.depends then
      final.passes, final.undecided, final.applied = true, false, false
    end
    return final
  end

  -- Leaves every counter unchanged whose change depends on other locations, except for a hold
  -- of all hits that the call adds. Refunds make room only once the call is granted. `granted`
  -- has the records that the call leaves if it is granted.
  local function hold_all(if_granted, if_refused, granted)
    local sums, holders = {}, {}
    for i, charge in ipairs(charges) do
      local differs = if_granted[i].changes_state and not if_refused[i].applied
      if charge.kind.depends and differs and not holders[charge.key] then
        sums[charge.key], holders[charge.key] = 0, charge
      end
    end
    for i, charge in ipairs(charges) do
      local key = charge.key
      if holders[key] then
        if_granted[i].held, if_refused[i].held = if_granted[i].changes_state, if_refused[i].changes_state
        if if_granted[i].changes_state then
          sums[key] = math.min(sums[key] + math.max(charge.hits, 0), MAX_NUMBER)
        end
      end
    end
    for key, charge in pairs(holders) do
      -- Only a ban that both outcomes of the call have begins now.
      local refused, banned_since = current[key], nil
      if refused and granted[key] and refused.banned_since == granted[key].banned_since then
        banned_since = refused.banned_since
      end
      current[key] = nil
      local record, holds = read_record(key), {}
      for i, hold in ipairs(record.holds) do
        holds[i] = hold
      end
      holds[#holds + 1] = { id = id, hits = sums[key], expires_at = clock() + hold_timeout }
      write_record(charge, record.state, banned_since or record.banned_since, holds, nil)
    end
  end

  -- Returns true if a charge refuses the call, or if each quota has a charge over its limit.
  local function is_refused()
    local quotas, refused = {}, false
    for i, charge in ipairs(charges) do
      refused = refused or charge.kind.refused or charge.kind.enforced and evaluations[i].over
      if charge.kind.quota then
        quotas[charge.kind.quota] = quotas[charge.kind.quota] or evaluations[i].over or false
      end
    end
    local exhausted = next(quotas) ~= nil
    for _, over in pairs(quotas) do
      exhausted = exhausted and over
    end
    return refused or exhausted
  end

  local refused = is_refused()
  if not refused and not undecided and id == 0 then
    return evaluations, evaluations
  end
  local granted = current
  current = {}
  if undecided and not refused then
    -- Again, without the charges that depend on the others.
    for i, charge in ipairs(charges) do
      if charge.kind.depends then
        evaluations[i].undecided, evaluations[i].applied = true, false
      else
        evaluations[i] = evaluate(charge, true, false)
      end
    end
    return evaluations, evaluations
  end
  -- Again, without the charges that a refused call does not make.
  local if_refused = {}
  for i, charge in ipairs(charges) do
    if_refused[i] = evaluate_refused(charge, evaluations[i])
  end
  if refused then
    return if_refused, if_refused
  end
  hold_all(evaluations, if_refused, granted)
  return evaluations, if_refused
end

-- Evaluates the charges of a call. Returns the same.
local function evaluate_call(charges)
  local evaluations, dependent, undecided = {}, false, false
  for i, charge in ipairs(charges) do
    evaluations[i] = evaluate(charge, true, false)
    dependent = dependent or charge.kind.depends
    undecided = undecided or evaluations[i].undecided
  end
  if dependent then
    return evaluate_dependent(charges, evaluations, undecided)
  end
  return evaluations, evaluations
end

-- The numbers of the state that a charge has left.
local function state_numbers(evaluation)
  return evaluation.applied and evaluation.after or evaluation.before
end

local function reply_for(evaluation, if_refused)
  local verdict = evaluation.undecided and 2 or evaluation.passes and 1 or 0
  local applied = evaluation.applied and 1 or 0
  local reply = { verdict, applied, evaluation.banned_until, unpack(state_numbers(evaluation)) }
  if 0 < id then
    local passes = if_refused.passes and not if_refused.undecided
    reply[#reply + 1] = (if_refused.applied and 1 or 0) + (evaluation.held and 2 or 0)
      + (if_refused.held and 4 or 0) + (passes and 8 or 0)
    for _, number in ipairs(state_numbers(if_refused)) do
      reply[#reply + 1] = number
    end
  end
  return reply
end

local replies = {}
while ARGV[argument] do
  now, id = tonumber(ARGV[argument]), tonumber(ARGV[argument + 2])
  local charges, count = {}, tonumber(ARGV[argument + 1])
  local parsed = 1 < count and {} or nil
  argument = argument + 3
  for i = 1, count do
    charges[i] = next_charge(parsed)
  end
  local evaluations, if_refused = evaluate_call(charges)
  for i, evaluation in ipairs(evaluations) do
    replies[#replies + 1] = reply_for(evaluation, if_refused[i])
  end
  finish_call()
end

store_records()
return replies
