local record, lock = KEYS[1], KEYS[2]
local step, owner, deadline, known, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local version = tonumber(redis.call('HGET', record, 'version') or 0)
local holder = redis.call('GET', lock)
local result = 'read'
if step ~= 'read' and now > deadline then
  result = 'late'
elseif step == 'lock' then
  if version > known then
    result = 'newer'
  elseif holder and holder ~= owner then
    result = 'busy'
  else
    redis.call('SET', lock, owner, 'PX', ttl)
    result = 'locked'
  end
elseif step == 'publish' then
  if redis.call('HGET', record, 'nonce') == ARGV[6] then
    result = 'published'
  elseif version > known then
    result = 'newer'
  elseif holder and holder ~= owner then
    result = 'busy'
  else
    version = math.max(version + 1, known + 1, now)
    local seen = string.sub((redis.call('HGET', record, 'seen') or '') .. ARGV[9], -256)
    redis.call('HSET', record, 'version', string.format('%.0f', version), 'nonce', ARGV[6], 'token', ARGV[7], 'life', ARGV[8], 'seen', seen)
    redis.call('PEXPIRE', record, ttl)
    result = 'published'
  end
end
if holder == owner and result ~= 'late' and (step == 'publish' or step == 'release') then
  redis.call('DEL', lock)
end
local kept = redis.call('HMGET', record, 'token', 'life', 'seen')
return {result, now, version, redis.call('PTTL', record), redis.call('PTTL', lock), kept[1], kept[2], kept[3]}
