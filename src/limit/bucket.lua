-- The state is `moment:level:cost`. `tick` is the present one, `next` the first that
-- begins now or later, and `size` the length of one.
local function bucket_state(state, tick, size, cost, drain, capacity)
  local moment, level, price = numbers(state, 3)
  if not moment then
    return tick, 0
  end
  local was = math.ceil(moment / size)
  if price ~= cost then
    -- The rule has changed: as many hits as were in the bucket are in it.
    level = math.min(math.ceil(level / math.max(price, 1)) * cost, capacity + 1)
  end
  level = math.min(level, capacity)
  if was <= tick then
    return tick, math.max(level - (tick - was) * drain, 0)
  end
  -- Another clock is ahead: nothing drains twice.
  return was, level
end

local function bucket_moment(was, size)
  return math.min(was * size, MOST)
end

local function bucket_text(was, size, level, cost)
  return text(bucket_moment(was, size)) .. ':' .. text(level) .. ':' .. text(cost)
end

local function bucket_life(was, tick, size, level, drain)
  -- What is poured in counts from the tick on that begins next.
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
        -- What is poured in within a tick has not been there when it began.
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

-- What has drained in the place of other hits is not given back: while they were there
-- the bucket drained, and without them it would have been empty.
local function undo_bucket(state, hits, told_moment, told_level, _, tick, next, size, cost, drain, capacity)
  local was, level = bucket_state(state, tick, size, cost, drain, capacity)
  local poured = math.min(hits * cost, capacity)
  local before = math.max(told_level - poured, 0)
  local drained = math.max(was - math.ceil(told_moment / size), 0) * drain
  local after = math.max(level - math.max(poured - math.max(drained - before, 0), 0), 0)
  if after == level then
    return
  end
  return bucket_text(was, size, after, cost), bucket_life(was, tick, size, after, drain)
end
