-- The state is `moment:level:cost`. `tick` is the tick that contains now, `next` the first tick
-- that begins now or later, and `size` the length of a tick.
local function bucket_state(state, tick, size, cost, drain, capacity)
  local moment, level, price = numbers(state, 3)
  if not moment then
    return tick, 0
  end
  local was = math.ceil(moment / size)
  if price ~= cost then
    -- The limit has changed: convert the level, so that it stands for as many hits.
    level = math.min(math.ceil(level / math.max(price, 1)) * cost, capacity + 1)
  end
  level = math.min(level, capacity)
  if was <= tick then
    return tick, math.max(level - (tick - was) * drain, 0)
  end
  -- Another clock is ahead, and that time has drained the bucket already.
  return was, level
end

local function bucket_moment(was, size)
  return math.min(was * size, MAX_NUMBER)
end

local function bucket_text(was, size, level, cost)
  return text(bucket_moment(was, size)) .. ':' .. text(level) .. ':' .. text(cost)
end

local function bucket_life(was, tick, size, level, drain)
  -- Units poured in within a tick begin to drain with the next.
  local ticks = was == tick + 1 and 1 or 0
  if 0 < level then
    ticks = ticks + math.ceil(level / drain)
  end
  return life_after(was * size, ticks * size)
end

local function bucket(state, hits, tick, next, size, cost, drain, capacity)
  local was, level = bucket_state(state, tick, size, cost, drain, capacity)
  local since, after, passes = was, level, true
  if 0 < hits then
    local poured = math.min(hits * cost, capacity + 1)
    passes = forced or level + poured <= capacity
    if passes then
      after = math.min(level + poured, capacity)
      if level < drain then
        -- The new units must not drain as if they had been poured in before the tick began.
        since = math.max(was, next)
      end
    end
  elseif hits < 0 then
    after = math.max(level - math.min(-hits * cost, capacity + 1), 0)
  end
  local value = after ~= level and bucket_text(since, size, after, cost)
  local before = { bucket_moment(was, size), level }
  return passes, before, { bucket_moment(since, size), after }, value, bucket_life(since, tick, size, after, drain)
end

-- Units that drained in place of other hits stay drained: without these hits the bucket would
-- have been empty for some of that time.
local function undo_bucket(state, hits, granted_moment, granted_level, _, tick, next, size, cost, drain, capacity)
  local was, level = bucket_state(state, tick, size, cost, drain, capacity)
  local poured = math.min(hits * cost, capacity)
  local before = math.max(granted_level - poured, 0)
  local drained = math.max(was - math.ceil(granted_moment / size), 0) * drain
  local after = math.max(level - math.max(poured - math.max(drained - before, 0), 0), 0)
  if after == level then
    return
  end
  return bucket_text(was, size, after, cost), bucket_life(was, tick, size, after, drain)
end
