-- The fast path of charge.lua: a script with one charge, to a counter without holds.
-- It does the same as the general path for such a charge; change them together. It runs before
-- the rest is defined, which takes as long as the charge itself. Returns nil,
-- without having changed anything, if the general path is needed.
local function lone()
  local flags, hits, penalty = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
  local arguments = {}
  for i = 1, tonumber(ARGV[12]) do
    arguments[i] = tonumber(ARGV[12 + i])
  end
  -- One call of one charge, which reserves nothing and is not refused by another.
  if ARGV[5] ~= '1' or ARGV[6] ~= '0' or ARGV[13 + #arguments] or bit.band(flags, 16) ~= 0 then
    return
  end
  now = tonumber(ARGV[4])
  local name, adds, value, since = ARGV[8], bit.band(flags, 1) ~= 0, nil, nil
  if reader(name) then
    value, since = reader(name)(KEYS[1])
  else
    value = redis.pcall('GET', KEYS[1]) or ''
    -- The value of a list, under a key whose algorithm has changed.
    if type(value) ~= 'string' or string.byte(value) == 35 then
      return
    end
    local at = string.find(value, '[!&]')
    if at then
      value, since = string.sub(value, 1, at - 1), string.sub(value, at)
    end
  end
  if not value then
    return
  end
  local banned = 0
  if since then
    -- Nothing is counted during a ban. Whatever else follows the state takes the general path.
    since = tonumber(string.match(since, '^!(%d+)$'))
    if not since or MOST < since or since <= 0 or penalty <= 0 or not adds then
      return
    end
    banned = math.min(since, now) + penalty
    if banned <= now then
      return
    end
  end
  local passes, before, after, state, life = algorithm(name)(value, hits, unpack(arguments))
  if 0 < banned then
    return { passes and 1 or 0, 0, banned, unpack(before) }
  end
  passes = passes or not adds
  if not passes and 0 < penalty and 0 < hits then
    return
  end
  -- An all_or_nothing charge that refuses its call is not counted.
  local nothing = bit.band(flags, 2) ~= 0 and (bit.band(flags, 8) ~= 0 or 128 <= flags)
  local made = passes or bit.band(flags, 32) ~= 0 and not nothing
  if made and state then
    local ttl, rest = lifetime(life), 0
    if bit.band(flags, 64) ~= 0 then
      rest = redis.call('PTTL', KEYS[1])
    end
    ttl = rest < ttl and ttl + tonumber(ARGV[7]) or rest
    if state == '' then
      redis.call('DEL', KEYS[1])
    elseif type(state) == 'table' and state.put(state) then
      redis.call('PEXPIRE', KEYS[1], text(ttl))
    else
      state = type(state) == 'table' and state.write(state) or state
      redis.call('SET', KEYS[1], state, 'PX', text(ttl))
    end
  end
  return { passes and 1 or 0, made and 1 or 0, 0, unpack(made and after or before) }
end

local answer = lone()
if answer then
  return { answer }
end

