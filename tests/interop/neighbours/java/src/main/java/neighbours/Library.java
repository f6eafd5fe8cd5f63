package neighbours;

import cn.binarywang.wx.miniapp.api.WxMaService;
import cn.binarywang.wx.miniapp.api.impl.WxMaServiceImpl;
import cn.binarywang.wx.miniapp.config.impl.WxMaRedissonConfigImpl;
import me.chanjar.weixin.common.error.WxErrorException;
import me.chanjar.weixin.common.redis.RedisTemplateWxRedisOps;
import me.chanjar.weixin.mp.api.WxMpService;
import me.chanjar.weixin.mp.api.impl.WxMpServiceImpl;
import me.chanjar.weixin.mp.config.WxMpHostConfig;
import me.chanjar.weixin.mp.config.impl.WxMpDefaultConfigImpl;
import me.chanjar.weixin.mp.config.impl.WxMpRedisConfigImpl;
import org.redisson.Redisson;
import org.redisson.api.RedissonClient;
import org.redisson.client.codec.StringCodec;
import org.redisson.config.Config;
import org.springframework.data.redis.core.StringRedisTemplate;

/** A business call beside the mesh, with the token that the neighbour itself looks after. */
interface Library {
  /** The server addresses that WeChat calls back from: a harmless GET that wants a token. */
  String CALLBACK_IP = "https://api.weixin.qq.com/cgi-bin/getcallbackip";

  void call() throws WxErrorException;

  /** WxJava alone: WxMpRedisConfigImpl keeps the token, WxMpServiceImpl refreshes it. */
  static Library wxJavaRedis(Settings settings, StringRedisTemplate redis, Wire wire) {
    String prefix = settings.prefix().isEmpty() ? "wx" : settings.prefix();
    WxMpService mp = mp(settings, new WxMpRedisConfigImpl(new RedisTemplateWxRedisOps(redis), prefix), wire);
    return mp::getCallbackIP;
  }

  /** WxJava's mini program with its Redisson storage. */
  static Library wxJavaRedisson(Settings settings, RedissonClient redisson, Wire wire) {
    String prefix = settings.prefix().isEmpty() ? null : settings.prefix();
    WxMaRedissonConfigImpl config = new WxMaRedissonConfigImpl(redisson, prefix);
    config.setAppid(settings.appid());
    config.setSecret(settings.secret());
    config.useStableAccessToken(settings.stable());
    config.setApiHostUrl(settings.wechat());
    config.setApacheHttpClientBuilder(wire);
    WxMaService ma = new WxMaServiceImpl();
    ma.setWxMaConfig(config);
    return () -> ma.get(CALLBACK_IP, null);
  }

  static WxMpService mp(Settings settings, WxMpDefaultConfigImpl config, Wire wire) {
    config.setSecret(settings.secret());
    config.setAppId(settings.appid());
    config.useStableAccessToken(settings.stable());
    config.setHostConfig(WxMpHostConfig.builder().apiHost(settings.wechat()).build());
    config.setApacheHttpClientBuilder(wire);
    WxMpService mp = new WxMpServiceImpl();
    mp.setWxMpConfigStorage(config);
    return mp;
  }

  static RedissonClient redisson(Settings settings) {
    Config config = new Config();
    config.useSingleServer()
        .setAddress("redis://" + settings.redisHost() + ":" + settings.redisPort())
        .setDatabase(settings.redisDb())
        .setConnectionMinimumIdleSize(1)
        .setConnectionPoolSize(4);
    // Without a codec of its own, Redisson serializes the token with Kryo 5: nobody else can read it.
    if (settings.codec().equals("string")) {
      config.setCodec(StringCodec.INSTANCE);
    }
    return Redisson.create(config);
  }
}
