package neighbours;

import java.util.Set;
import java.util.concurrent.TimeUnit;
import me.chanjar.weixin.common.error.WxErrorException;
import me.chanjar.weixin.mp.api.WxMpService;
import me.chanjar.weixin.mp.config.impl.WxMpDefaultConfigImpl;
import org.redisson.api.RLock;
import org.redisson.api.RedissonClient;
import org.springframework.data.redis.core.StringRedisTemplate;

/** The classic token service: the token in one Redis key for 110 minutes, renewed by whoever holds a Redisson lock. */
final class Seed implements Library {
  private static final double LIFE_S = 110 * 60;
  private static final long LOCK_WAIT_S = 10;
  private static final long LOCK_LEASE_S = 30;
  private static final Set<Integer> TOKEN_REFUSED = Set.of(40001, 40014, 42001);

  private final Settings settings;
  private final StringRedisTemplate redis;
  private final RedissonClient redisson;
  private final WxMpDefaultConfigImpl config;
  private final WxMpService mp;
  private final String key;

  Seed(Settings settings, StringRedisTemplate redis, RedissonClient redisson, Wire wire) {
    this.settings = settings;
    this.redis = redis;
    this.redisson = redisson;
    this.key = settings.key().isEmpty() ? "wechat:access_token" : settings.key();
    // The service decides about refreshing; WxJava only makes the calls with the token that it is told.
    this.config = new WxMpDefaultConfigImpl() {
      @Override
      public boolean autoRefreshToken() {
        return false;
      }
    };
    this.mp = Library.mp(settings, config, wire);
    // Always the classic endpoint: a key of 110 minutes is only right for a token that was just made.
    config.useStableAccessToken(false);
  }

  @Override
  public void call() throws WxErrorException {
    String token = current();
    try {
      callWith(token);
    } catch (WxErrorException e) {
      if (!TOKEN_REFUSED.contains(e.getError().getErrorCode())) {
        throw e;
      }
      callWith(refresh(token));
    }
  }

  private void callWith(String token) throws WxErrorException {
    config.updateAccessToken(token, 7200);
    mp.getCallbackIP();
  }

  private String current() throws WxErrorException {
    String token = fresh(null);
    return token != null ? token : refresh(null);
  }

  /** The stored token, or null where it is missing, near its end, or the one that WeChat refused. */
  private String fresh(String refused) {
    String token = redis.opsForValue().get(key);
    Long left = redis.getExpire(key, TimeUnit.MILLISECONDS);
    boolean lasts = left != null && left > settings.scaledMs(settings.refreshBeforeS());
    return token != null && lasts && !token.equals(refused) ? token : null;
  }

  private String refresh(String refused) throws WxErrorException {
    RLock lock = redisson.getLock(key + "_lock");
    boolean locked = false;
    try {
      locked = lock.tryLock(LOCK_WAIT_S, LOCK_LEASE_S, TimeUnit.SECONDS);
      // Somebody else may have refreshed while we waited.
      String token = fresh(refused);
      if (token != null) {
        return token;
      }
      if (!locked) {
        throw new IllegalStateException("the lock is held by somebody else");
      }
      // WxJava asks only when its own copy is expired.
      config.expireAccessToken();
      token = mp.getAccessToken();
      redis.opsForValue().set(key, token, settings.scaledMs(LIFE_S), TimeUnit.MILLISECONDS);
      return token;
    } catch (WxErrorException e) {
      // Near its end is not at its end: while WeChat gives no new token, the old one is good.
      String old = redis.opsForValue().get(key);
      if (old != null && !old.equals(refused)) {
        return old;
      }
      throw e;
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(e);
    } finally {
      if (locked && lock.isHeldByCurrentThread()) {
        lock.unlock();
      }
    }
  }
}
