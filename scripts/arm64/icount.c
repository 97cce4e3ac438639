/* QEMU TCG plugin: ARM64 instructions by class; the guest marks a point with syscall(12345, tag). */
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <inttypes.h>
#include <qemu-plugin.h>
QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;
enum {TOT, LDST, BR, FMLA, SDOT, MMLA, MLAL, SIMD, NC};
static const char *nm[NC]={"total","ldst","branch","fmla","dot","mmla","mlal","simd_other"};
static uint64_t c[NC];
static int cls(uint32_t o){
  if((o&0x0a000000)==0x08000000) return LDST;
  if((o&0x1c000000)==0x14000000) return BR;
  if((o&0x0e000000)==0x0e000000){
    if((o&0xbfa0fc00)==0x0e20cc00||(o&0xbf80f400)==0x0f801000) return FMLA;
    if((o&0x9fe0fc00)==0x0e809400||(o&0x9fc0f400)==0x0f80e000) return SDOT;
    if((o&0xdfe0fc00)==0x4e80a400||(o&0xffe0fc00)==0x4e80ac00||(o&0xffe0fc00)==0x6e40ec00) return MMLA;
    if((o&0x9f20fc00)==0x0e208000||(o&0x9f00f400)==0x0f002000) return MLAL;
    return SIMD;
  }
  return -1;
}
static void tb(qemu_plugin_id_t id, struct qemu_plugin_tb *t){
  size_t n=qemu_plugin_tb_n_insns(t); uint64_t k[NC]={0};
  for(size_t i=0;i<n;i++){ uint32_t o; memcpy(&o,qemu_plugin_insn_data(qemu_plugin_tb_get_insn(t,i)),4); int x=cls(o); if(x>=0)k[x]++; }
  k[TOT]=n;
  for(int i=0;i<NC;i++) if(k[i]) qemu_plugin_register_vcpu_tb_exec_inline(t,QEMU_PLUGIN_INLINE_ADD_U64,&c[i],k[i]);
}
static void sc(qemu_plugin_id_t id, unsigned int v, int64_t num, uint64_t a1,uint64_t a2,uint64_t a3,uint64_t a4,uint64_t a5,uint64_t a6,uint64_t a7,uint64_t a8){
  if(num!=12345) return;
  fprintf(stderr,"ICOUNT %" PRIu64,a1);
  for(int i=0;i<NC;i++) fprintf(stderr," %s=%" PRIu64,nm[i],c[i]);
  fprintf(stderr,"\n");
}
QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,const qemu_info_t *info,int argc,char **argv){
  qemu_plugin_register_vcpu_tb_trans_cb(id,tb); qemu_plugin_register_vcpu_syscall_cb(id,sc); return 0; }
