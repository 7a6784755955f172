-- The fast path of decide.lua: a script run with one charge, to a counter without holds. It does
-- the same as the general path; change them together. It runs before the functions of that path
-- are defined, which takes as long as the charge. Returns nil, without having changed anything,
-- if the general path is needed.
local function make_single_charge()
  local flags, hits, penalty = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
  local arguments = {}
  for i = 1, tonumber(ARGV[12]) do
    arguments[i] = tonumber(ARGV[12 + i])
  end
  -- One call of one charge, which holds no hits and is not refused by another.
  if ARGV[5] ~= '1' or ARGV[6] ~= '0' or ARGV[13 + #arguments] or bit.band(flags, 16) ~= 0 then
    return
  end
  now = tonumber(ARGV[4])
  local name, adds, value, rest = ARGV[8], bit.band(flags, 1) ~= 0, nil, nil
  if reader(name) then
    value, rest = reader(name)(KEYS[1])
  else
    value = redis.pcall('GET', KEYS[1]) or ''
    -- The value of a list, under a key whose algorithm has changed.
    if type(value) ~= 'string' or string.byte(value) == 35 then
      return
    end
    local at = string.find(value, '[!&]')
    if at then
      value, rest = string.sub(value, 1, at - 1), string.sub(value, at)
    end
  end
  if not value then
    return
  end
  local banned_until = 0
  if rest then
    -- Nothing is counted during a ban. With anything else after the state, the general path is
    -- needed.
    local banned_since = tonumber(string.match(rest, '^!(%d+)$'))
    if not banned_since or MAX_NUMBER < banned_since or banned_since <= 0 or penalty <= 0 or not adds then
      return
    end
    banned_until = math.min(banned_since, now) + penalty
    if banned_until <= now then
      return
    end
  end
  local passes, before, after, state, life = algorithm(name)(value, hits, unpack(arguments))
  if 0 < banned_until then
    return { passes and 1 or 0, 0, banned_until, unpack(before) }
  end
  passes = passes or not adds
  if not passes and 0 < penalty and 0 < hits then
    return
  end
  -- A refused all_or_nothing charge that refuses its call is not counted.
  local counts_nothing = bit.band(flags, 2) ~= 0 and (bit.band(flags, 8) ~= 0 or 128 <= flags)
  local applied = passes or bit.band(flags, 32) ~= 0 and not counts_nothing
  if applied and state then
    local ttl, remaining = ttl_for(life), 0
    if bit.band(flags, 64) ~= 0 then
      remaining = redis.call('PTTL', KEYS[1])
    end
    ttl = remaining < ttl and ttl + tonumber(ARGV[7]) or remaining
    if state == '' then
      redis.call('DEL', KEYS[1])
    elseif type(state) == 'table' and state:update() then
      redis.call('PEXPIRE', KEYS[1], text(ttl))
    else
      state = type(state) == 'table' and state:text() or state
      redis.call('SET', KEYS[1], state, 'PX', text(ttl))
    end
  end
  return { passes and 1 or 0, applied and 1 or 0, 0, unpack(applied and after or before) }
end

local reply = make_single_charge()
if reply then
  return { reply }
end

