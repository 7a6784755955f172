-- Settles charges that have been made before, one after the other: the twin of
-- `store::script::settle`.
--
-- KEYS            the counter of each
-- ARGV[1], [2]    see above
-- then for each   now
--                 how: `c` what a call holds is let go, and hits are counted in its place;
--                 `m` more are, if it was; `r` it is let go; `b` hits are given back; `s` hits take the
--                 place of all that is kept; then `w` if
--                 rules with windows of different length may share the counter
--                 the algorithm
--                 the penalty, 0 for none
--                 how many milliseconds to put the expiry off
--                 the number of the call that holds, or how many hits
--                 the three numbers that were told when hits were granted; where they are
--                 counted, first how many, below 0 to give back
--                 how many arguments follow, and these: those of the algorithm
--
-- Returns for each 1 if that changed anything, else 0.

local function without(holds, id)
  local rest, hits = {}, nil
  for _, hold in ipairs(holds) do
    if hold.id == id then
      hits = hold.hits
    else
      rest[#rest + 1] = hold
    end
  end
  return rest, hits
end

-- The state and its life once `hits` are counted, whatever the limit says.
local function counted(charge, state, hits)
  forced = true
  local _, _, _, text, life = charge.algorithm(state, hits, unpack(charge.arguments))
  forced = false
  if text then
    return text, life
  end
  return state, nil
end

-- The counters of which the last call to settle any has found what it held.
local taken = {}

local function settle(charge, how, amount, told)
  local record = kept(charge.key)
  if how == 'm' then
    if not taken[charge.key] then
      return 0
    end
    local state, life = counted(charge, record.state, told[1])
    write(charge, state, record.banned, record.holds, life)
  elseif how == 'c' or how == 'r' then
    local holds, hits = without(record.holds, amount)
    taken[charge.key] = hits ~= nil
    if not hits then
      return 0
    end
    local state, life = record.state, nil
    if how == 'c' then
      state, life = counted(charge, state, told[1])
    end
    write(charge, state, record.banned, holds, life)
  elseif how == 'b' then
    if record.state == '' then
      return 0
    end
    local state, life = charge.undo(record.state, amount, told[1], told[2], told[3], unpack(charge.arguments))
    if not state then
      return 0
    end
    write(charge, state, record.banned, record.holds, life)
  else
    local state, life = counted(charge, '', amount)
    write(charge, state, 0, {}, life)
  end
  return 1
end

local answers, argument = {}, 3
for i, key in ipairs(KEYS) do
  now = tonumber(ARGV[argument])
  local name = ARGV[argument + 2]
  local charge = {
    key = key,
    algorithm = algorithm(name),
    undo = undo(name),
    kind = { shares = string.find(ARGV[argument + 1], 'w', 1, true) },
    penalty = tonumber(ARGV[argument + 3]),
    more = tonumber(ARGV[argument + 4]),
    arguments = {},
  }
  local told = {}
  for j = 1, 3 do
    told[j] = tonumber(ARGV[argument + 5 + j])
  end
  for j = 1, tonumber(ARGV[argument + 9]) do
    charge.arguments[j] = tonumber(ARGV[argument + 9 + j])
  end
  answers[i] = settle(charge, string.sub(ARGV[argument + 1], 1, 1), tonumber(ARGV[argument + 5]), told)
  argument = argument + 10 + #charge.arguments
  done()
end

write_all()
return answers
