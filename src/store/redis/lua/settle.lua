-- Settles charges of earlier calls, in order: the twin of `store::script::settle`.
--
-- KEYS            the counter of each charge
-- ARGV[1], [2]    see numbers.lua
-- then for each   the time
--                 the action: `c` removes a hold and counts hits in its place; `m` counts more
--                 hits if that hold was found; `r` removes a hold; `b` refunds hits; `s` replaces
--                 the record by one with these hits; `e` deletes the record; followed by `w` if
--                 rules with windows of different lengths share the key
--                 the name of the algorithm
--                 the penalty, 0 for none
--                 the jitter of the expiry, in milliseconds
--                 the id of the holder for `c` and `r`, the number of hits for `b` and `s`
--                 for `b` the three numbers of the state that were returned with the grant; for
--                 `c` and `m` the number of hits, below 0 for a refund, and two unused numbers
--                 the number of the algorithm's arguments, and these arguments
--
-- Returns for each charge 1 if its counter changed, else 0.

-- The holds of other calls than `id`, and the hits of its own hold.
local function split_holds(holds, id)
  local others, hits = {}, nil
  for _, hold in ipairs(holds) do
    if hold.id == id then
      hits = hold.hits
    else
      others[#others + 1] = hold
    end
  end
  return others, hits
end

-- The state and its life once `hits` are counted, even beyond the limit.
local function counted(charge, state, hits)
  forced = true
  local _, _, _, new_state, life = charge.algorithm(state, hits, unpack(charge.arguments))
  forced = false
  if new_state then
    return new_state, life
  end
  return state, nil
end

-- The keys whose last `c` or `r` action found its hold.
local found_hold = {}

-- Settles one charge, and returns 1 if that changed its counter.
local function settle(charge, action, amount, granted)
  local record = read_record(charge.key)
  if action == 'm' then
    if not found_hold[charge.key] then
      return 0
    end
    local state, life = counted(charge, record.state, granted[1])
    write_record(charge, state, record.banned_since, record.holds, life)
  elseif action == 'c' or action == 'r' then
    local holds, hits = split_holds(record.holds, amount)
    found_hold[charge.key] = hits ~= nil
    if not hits then
      return 0
    end
    local state, life = record.state, nil
    if action == 'c' then
      state, life = counted(charge, state, granted[1])
    end
    write_record(charge, state, record.banned_since, holds, life)
  elseif action == 'b' then
    if record.state == '' then
      return 0
    end
    local state, life = charge.undo(
      record.state, amount, granted[1], granted[2], granted[3], unpack(charge.arguments)
    )
    if not state then
      return 0
    end
    write_record(charge, state, record.banned_since, record.holds, life)
  elseif action == 'e' then
    write_record(charge, '', 0, {}, nil)
  else
    local state, life = counted(charge, '', amount)
    write_record(charge, state, 0, {}, life)
  end
  return 1
end

local replies, argument = {}, 3
for i, key in ipairs(KEYS) do
  now = tonumber(ARGV[argument])
  local action, name = ARGV[argument + 1], ARGV[argument + 2]
  local charge = {
    key = key,
    algorithm = algorithm(name),
    undo = undo(name),
    kind = { shares = string.find(action, 'w', 1, true) },
    penalty = tonumber(ARGV[argument + 3]),
    jitter = tonumber(ARGV[argument + 4]),
    arguments = {},
  }
  local granted = {}
  for j = 1, 3 do
    granted[j] = tonumber(ARGV[argument + 5 + j])
  end
  for j = 1, tonumber(ARGV[argument + 9]) do
    charge.arguments[j] = tonumber(ARGV[argument + 9 + j])
  end
  replies[i] = settle(charge, string.sub(action, 1, 1), tonumber(ARGV[argument + 5]), granted)
  argument = argument + 10 + #charge.arguments
  finish_call()
end

store_records()
return replies
